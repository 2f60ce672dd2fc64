//! Nodes for which tract 0.23 takes axes and elements for granted that need not be there: it would read other memory.

use crate::ir::{Graph, Node};
use crate::shape::{Fact, facts};

/// Operators of which the second axis of the input is that of channels.
const OF_CHANNELS: &[&str] = &[
    "AveragePool",
    "BatchNormalization",
    "Conv",
    "ConvTranspose",
    "GlobalAveragePool",
    "GlobalLpPool",
    "GlobalMaxPool",
    "InstanceNormalization",
    "LRN",
    "LpPool",
    "MaxPool",
];

/// Returns what is wrong with the first node of `graph` that tract would read other memory for, where shapes tell.
pub(super) fn beyond_memory(graph: &Graph) -> Option<String> {
    let is_checked = |node: &&Node| OF_CHANNELS.iter().any(|op| node.is(op));
    graph.nodes.iter().find(is_checked)?;
    let facts = facts(graph).ok()?;
    graph.nodes.iter().filter(is_checked).find_map(|node| {
        let message = fault(node, &facts)?;
        Some(format!("{} {message}", graph.describe(node)))
    })
}

fn fault(node: &Node, facts: &[Fact]) -> Option<&'static str> {
    let mut inputs = node.inputs.iter().flatten().map(|id| &facts[id.index()]);
    let x = inputs.next()?;
    if x.rank().is_some_and(|rank| rank < 2) {
        return Some("has an input without an axis of channels");
    }
    if !node.is("BatchNormalization") {
        return None;
    }
    let differs = |parameter: &Fact| parameter.dtype.zip(x.dtype).is_some_and(|(of_it, of_x)| of_it != of_x);
    inputs.any(differs).then_some("has parameters of another type than its input")
}
