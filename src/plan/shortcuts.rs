//! Residual shortcuts: an operand of a sum keeps its bits where layers read the same tensor with fewer.

use std::collections::{BTreeMap, BTreeSet};

use super::placement::{Planner, WIDE_BITS, placed, plan};
use super::{Plan, Policy, Role};
use crate::error::Result;
use crate::ir::{Attrs, Graph, Node, ValueId};

/// Returns the plan for `graph`, with an Identity between an operand of a residual sum and the layers that read it with
/// fewer bits, so that both have their own grids: otherwise the coarse grid of one layer would affect all layers after
/// the sum. A graph without such tensors is unchanged.
///
/// # Errors
/// As [`plan`].
pub fn plan_with_split_residuals(graph: &mut Graph, policy: &Policy) -> Result<Plan> {
    let placement = placed(graph, policy)?;
    let reads = if policy.shared_shortcuts { Vec::new() } else { placement.narrowed_shortcuts() };
    if reads.is_empty() {
        return placement.plan();
    }
    split(graph, &reads);
    plan(graph, policy)
}

/// Inserts an Identity before `reads` (pairs of node and input), one per tensor.
fn split(graph: &mut Graph, reads: &[(usize, usize)]) {
    let mut narrowed: BTreeMap<ValueId, ValueId> = BTreeMap::new();
    for &(node, slot) in reads {
        let Some(x) = graph.nodes[node].inputs[slot] else { continue };
        let y = *narrowed.entry(x).or_insert_with(|| {
            let y = graph.add_value(&format!("{}_narrowed", graph.name_of(x)));
            let value = graph.value(x).clone();
            (graph.value_mut(y).dtype, graph.value_mut(y).shape) = (value.dtype, value.shape);
            y
        });
        graph.nodes[node].inputs[slot] = Some(y);
    }
    for (&x, &y) in &narrowed {
        let node = Node::new("Identity", [x], [y], Attrs::default());
        let first = graph.nodes.iter().position(|node| node.inputs.contains(&Some(y)));
        graph.nodes.insert(first.unwrap_or(graph.nodes.len()), node);
    }
}

impl Planner<'_> {
    /// Returns the reads, as node and input, of layers with fewer bits than sums on a tensor that shares a grid with an
    /// operand of a sum.
    fn narrowed_shortcuts(&self) -> Vec<(usize, usize)> {
        let is_narrowed =
            |set: &usize| self.demand[*set].is_some_and(|d| d.role == Role::LayerInput && d.bits < WIDE_BITS);
        let sets: BTreeSet<usize> = self.summed.iter().map(|&id| self.set_of(id)).filter(is_narrowed).collect();
        let mut reads = Vec::new();
        for layer in self.layers.iter().filter(|layer| layer.input.is_ok()) {
            for (slot, id) in self.graph.nodes[layer.node].inputs.iter().enumerate().take(2) {
                if id.is_some_and(|id| sets.contains(&self.set_of(id))) {
                    reads.push((layer.node, slot));
                }
            }
        }
        reads
    }
}
