//! Operators that read the float values of a quantized tensor.

use std::collections::HashSet;

use super::float_paths::FloatPaths;
use super::{Plan, is_layer};
use crate::ir::{Graph, Node, ValueId};

/// The operators that read float values whatever grid their inputs are on.
pub struct FloatReads {
    /// Results of layers that stay float. After a DequantizeLinear, ONNX Runtime's default options would quantize their
    /// weights per tensor (`WeightBiasQuantization`, seen in 1.31).
    layers: HashSet<ValueId>,
    paths: FloatPaths,
}

impl FloatReads {
    /// Returns what `graph`, whose nodes are sorted, reads in floating point under `plan`.
    pub fn of(graph: &Graph, plan: &Plan) -> Self {
        let planned: HashSet<&str> = plan.layers.iter().map(|layer| layer.output.as_str()).collect();
        let is_planned = |node: &Node| node.output(0).is_some_and(|id| planned.contains(graph.name_of(id)));
        let layers = graph.nodes.iter().filter(|node| is_layer(node) && !is_planned(node));
        let layers = layers.filter_map(|node| node.output(0)).collect();
        Self { layers, paths: FloatPaths::of(graph, is_planned) }
    }

    /// Returns whether `node` reads the float values of its input `x`: layers that stay float do, and operators on
    /// whose way out of the network, or to the indices of a MaxPool, rounding would show.
    pub fn contain(&self, node: &Node, x: ValueId) -> bool {
        let is_float_layer = node.output(0).is_some_and(|output| self.layers.contains(&output));
        is_float_layer || self.paths.lead_through(node, x)
    }
}
