//! Replaces an If by the branch that it always takes.

use std::collections::HashMap;

use super::{fold_constants, lift_constants};
use crate::error::Result;
use crate::ir::{Attr, Body, Graph, Node, ValueId};
use crate::runtime::Engine;

/// Returns the number of If nodes that were replaced.
///
/// Matched: If whose condition follows from constants and from sizes that the model fixes; constants are
/// folded first by [`fold_constants()`], and again after a branch is inlined. Refused: a condition that depends on data
/// or on a size that is open; such an If stays as it is.
/// Before -> after: `y = If(true) then_branch={t = Relu(x)}` -> `y = Relu(x)`.
///
/// # Errors
/// Those of [`fold_constants()`].
pub fn inline_branches(graph: &mut Graph, engine: &dyn Engine) -> Result<usize> {
    let mut inlined = 0;
    while graph.nodes.iter().any(|node| node.is("If")) {
        lift_constants(graph)?;
        fold_constants(graph, engine)?;
        let Some((at, branch)) = (0..graph.nodes.len()).find_map(|at| Some((at, taken(graph, &graph.nodes[at])?)))
        else {
            break;
        };
        inline(graph, at, &branch);
        inlined += 1;
    }
    Ok(inlined)
}

/// Returns the branch that an If always takes, if known.
fn taken(graph: &Graph, node: &Node) -> Option<Body> {
    let condition = graph.constant_of(node.input(0).filter(|_| node.is("If"))?)?;
    let name = if condition.to_i64().ok()?.first()? == &0 { "else_branch" } else { "then_branch" };
    match node.attrs.get(name)? {
        Attr::Graph(body) => Some((**body).clone()),
        _ => None,
    }
}

/// Replaces the node at `at` by the nodes of `branch`.
fn inline(graph: &mut Graph, at: usize, branch: &Body) {
    let outer = graph.nodes.remove(at);
    let mut same: HashMap<ValueId, ValueId> =
        branch.captured().filter_map(|(inner, input)| Some((inner, outer.input(input)?))).collect();
    let mut nodes = Vec::with_capacity(branch.graph.nodes.len());
    for node in &branch.graph.nodes {
        for &made in node.outputs.iter().flatten() {
            let place = branch.graph.outputs.iter().position(|&output| output == made);
            let id = place.and_then(|place| outer.output(place)).unwrap_or_else(|| copy_of(graph, &branch.graph, made));
            same.insert(made, id);
        }
    }
    for id in branch.graph.value_ids() {
        if let Some(tensor) = branch.graph.constant_of(id) {
            same.insert(id, graph.add_constant(branch.graph.name_of(id), tensor.clone()));
        }
    }
    let mapped = |ids: &[Option<ValueId>]| ids.iter().map(|id| id.and_then(|id| same.get(&id).copied())).collect();
    for node in &branch.graph.nodes {
        nodes.push(Node { inputs: mapped(&node.inputs), outputs: mapped(&node.outputs), ..node.clone() });
    }
    // What a branch hands out without making it, or twice.
    for (inner, y) in branch.graph.outputs.iter().zip(&outer.outputs) {
        if let (Some(&x), Some(y)) = (same.get(inner), *y)
            && x != y
        {
            nodes.push(Node::new("Identity", [x], [y], []));
        }
    }
    graph.nodes.splice(at..at, nodes);
}

/// Returns a copy in the outer graph of the value `id` of `branch`.
fn copy_of(graph: &mut Graph, branch: &Graph, id: ValueId) -> ValueId {
    let value = branch.value(id);
    let copy = graph.add_value(value.name());
    let new = graph.value_mut(copy);
    (new.dtype, new.declared) = (value.dtype, value.declared);
    (new.shape, new.doc) = (value.shape.clone(), value.doc.clone());
    copy
}
