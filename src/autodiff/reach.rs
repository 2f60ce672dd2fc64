//! How far gradients reach in a network, judged by its operators.

use super::has_rule;
use crate::ir::{Graph, Node, ValueId};

/// The values that depend on trained values, and those of them whose gradients reach the trained values.
#[derive(Clone, Debug)]
pub struct Reach {
    follows: Vec<bool>,
    passes: Vec<bool>,
    /// The indices of the first nodes that stop gradients; nodes after them are not listed.
    pub blocked: Vec<usize>,
}

impl Reach {
    /// Returns the reach from `values` and from every node for which `begins` holds. Sizes depend on nothing.
    pub fn of(graph: &Graph, values: &[ValueId], begins: fn(&Node) -> bool) -> Self {
        let count = graph.value_ids().count();
        let mut reach = Self { follows: vec![false; count], passes: vec![false; count], blocked: Vec::new() };
        for id in values {
            (reach.follows[id.index()], reach.passes[id.index()]) = (true, true);
        }
        let nodes = graph.nodes.iter().enumerate();
        for (place, node) in nodes.filter(|(_, node)| !node.is("Shape") && !node.is("Size")) {
            let inputs = || node.inputs.iter().flatten().filter(|id| reach.follows[id.index()]);
            if !begins(node) && inputs().next().is_none() {
                continue;
            }
            let before = inputs().all(|id| reach.passes[id.index()]);
            let through = before && has_rule(node);
            if before && !through {
                reach.blocked.push(place);
            }
            for id in node.outputs.iter().flatten() {
                (reach.follows[id.index()], reach.passes[id.index()]) = (true, through);
            }
        }
        reach
    }

    /// Returns whether `value` depends on trained values.
    pub fn follows(&self, value: ValueId) -> bool {
        self.follows[value.index()]
    }

    /// Returns whether gradients also pass every operator between `value` and the trained values.
    pub fn passes(&self, value: ValueId) -> bool {
        self.passes[value.index()]
    }
}
