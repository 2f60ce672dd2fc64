//! Removes nodes that return their input unchanged.

use std::collections::HashMap;

use crate::error::Result;
use crate::ir::{Attr, DType, Graph, Node, Uses, ValueId};

/// Operators that may return their input unchanged.
const PASS_THROUGH: &[&str] = &["Identity", "Cast", "Dropout"];

/// Returns the number of removed nodes.
///
/// Matched: Identity, Dropout in inference mode, Cast to the type of its input (by [`crate::shape::infer`]).
/// Refused: a Dropout whose mask is read, whose training mode is computed, or that trains; a node between a graph
/// input, an initializer or another graph output and a graph output.
/// Before -> after: `y = Identity(x); z = Op(y)` -> `z = Op(x)`; where `y` is a graph output, the producer of `x`
/// produces `y` instead.
///
/// # Errors
/// None.
pub fn drop_identity(graph: &mut Graph) -> Result<usize> {
    let mut dropped = drop_inner(graph);
    let mut i = 0;
    while i < graph.nodes.len() {
        if drop_before_output(graph, i) {
            dropped += 1;
        } else {
            i += 1;
        }
    }
    Ok(dropped)
}

/// Drops nodes whose results are not graph outputs.
fn drop_inner(graph: &mut Graph) -> usize {
    let uses = graph.uses();
    let mut stands_for: HashMap<ValueId, ValueId> = HashMap::new();
    let before = graph.nodes.len();
    for mut node in std::mem::take(&mut graph.nodes) {
        for id in node.inputs.iter_mut().flatten() {
            *id = stands_for.get(id).copied().unwrap_or(*id);
        }
        match (node.input(0), node.output(0)) {
            (Some(x), Some(y)) if !uses.is_output(y) && hands_on(graph, &node, &uses) => {
                stands_for.insert(y, x);
            }
            _ => graph.nodes.push(node),
        }
    }
    before - graph.nodes.len()
}

/// Drops node `i` whose result is a graph output; the node before it produces the output instead.
fn drop_before_output(graph: &mut Graph, i: usize) -> bool {
    let node = &graph.nodes[i];
    let (Some(x), Some(y)) = (node.input(0), node.output(0)) else { return false };
    // Uses are gathered over the whole graph, so not for every node of it.
    if !PASS_THROUGH.iter().any(|op| node.is(op)) || !graph.outputs.contains(&y) {
        return false;
    }
    let uses = graph.uses();
    if !hands_on(graph, node, &uses) {
        return false;
    }
    let Some(producer) = uses.producer(x).filter(|_| !uses.is_output(x)) else { return false };
    graph.replace_uses(x, y);
    for output in &mut graph.nodes[producer].outputs {
        if *output == Some(x) {
            *output = Some(y);
        }
    }
    graph.nodes.remove(i);
    true
}

fn hands_on(graph: &Graph, node: &Node, uses: &Uses) -> bool {
    if node.is("Identity") {
        return true;
    }
    if node.is("Cast") {
        let to = i32::try_from(node.attrs.int("to", 0)).ok().and_then(DType::from_code);
        return to.is_some() && node.input(0).and_then(|x| graph.value(x).dtype) == to;
    }
    let mask_read = node.output(1).is_some_and(|m| uses.is_output(m) || !uses.consumers(m).is_empty());
    node.is("Dropout") && !mask_read && !trains(graph, node)
}

/// Returns whether a Dropout may be active: by attribute `is_test` before operator set 7, never until 11, by input 2
/// from 12 on.
fn trains(graph: &Graph, node: &Node) -> bool {
    match graph.opset() {
        ..7 => node.attrs.get("is_test") != Some(&Attr::Int(1)),
        7..12 => false,
        12.. => node.input(2).is_some_and(|mode| {
            let mode = graph.constant_of(mode).and_then(|t| t.to_i64().ok());
            mode.is_none_or(|mode| mode != [0])
        }),
    }
}
