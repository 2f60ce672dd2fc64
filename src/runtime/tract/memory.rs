//! Nodes for which tract 0.23 assumes axes and elements that may be missing, and would read out of bounds.

use crate::ir::{Graph, Node};
use crate::shape::{Fact, facts};

/// Operators whose input has channels on its second axis.
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

/// Operators that resize axes, whose sizes or factors tract reads even where the specification ignores them.
const OF_FACTORS: &[&str] = &["Resize", "Upsample"];
/// The largest factor.
const LARGEST_FACTOR: f32 = 65_536.0;

/// Returns the problem of the first node of `graph` for which tract would read out of bounds, as far as shapes tell.
pub(super) fn beyond_memory(graph: &Graph) -> Option<String> {
    let is_checked = |node: &&Node| OF_CHANNELS.iter().chain(OF_FACTORS).any(|op| node.is(op));
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
    if OF_FACTORS.iter().any(|op| node.is(op)) {
        let is_wild = |factor: &f32| factor.is_nan() || factor.abs() > LARGEST_FACTOR;
        let mut given = inputs.filter_map(Fact::floats).chain(node.attrs.floats("scales").map(<[f32]>::to_vec));
        return given.any(|factors| factors.iter().any(is_wild)).then_some("has a factor that no size has room for");
    }
    if x.rank().is_some_and(|rank| rank < 2) {
        return Some("has an input without an axis of channels");
    }
    if !node.is("BatchNormalization") {
        return None;
    }
    let differs = |parameter: &Fact| parameter.dtype.zip(x.dtype).is_some_and(|(of_it, of_x)| of_it != of_x);
    inputs.any(differs).then_some("has parameters of another type than its input")
}
