//! Removes a Relu or Clip that the quantizer behind it does again.
//!
//! Before: `q = QuantizeLinear(Clip(x, lo, hi), scale, zero_point)`, with or without an integer Clip behind it.
//! After: `q = QuantizeLinear(x, scale, zero_point)`, where the node that made `x` makes the Clip's result by name.
//! Rounding is monotonic, so integers stay equal where `lo` and `hi` reach the ends of the grid or lie beyond them.
//! ONNX Runtime 1.31 does the same at 8 bits, but looks at the element type alone: below 8 bits the Clip of a ReLU6
//! would stay, and with it the layer before it in floating point.
//!
//! Refused: limits within the grid or computed at run time, per-axis grids, a second reader of either tensor.

use crate::error::Result;
use crate::ir::{Graph, Node, Uses, ValueId};

/// Returns the number of nodes removed.
///
/// # Errors
/// None.
pub fn drop_saturated_clips(graph: &mut Graph) -> Result<usize> {
    let before = graph.nodes.len();
    let mut i = 0;
    while i < graph.nodes.len() {
        let uses = graph.uses();
        let Some((producer, x, y)) = repeated(graph, &uses, i) else {
            i += 1;
            continue;
        };
        for output in graph.nodes[producer].outputs.iter_mut().filter(|output| **output == Some(x)) {
            *output = Some(y);
        }
        graph.nodes.remove(i);
    }
    graph.sweep();
    Ok(before - graph.nodes.len())
}

/// The node before, the input and the output of node `index` where a quantizer does its work again.
fn repeated(graph: &Graph, uses: &Uses, index: usize) -> Option<(usize, ValueId, ValueId)> {
    let node = &graph.nodes[index];
    let (x, y) = (node.input(0)?, node.output(0)?);
    let (lo, hi) = limits(graph, node)?;
    let quantizer = &graph.nodes[uses.only_consumer(y)?];
    let producer = uses.producer(x).filter(|_| uses.only_consumer(x) == Some(index))?;
    if !quantizer.is("QuantizeLinear") || quantizer.input(0) != Some(y) {
        return None;
    }
    let scale = scalar(graph, quantizer.input(1)?)?;
    let zero_point = scalar(graph, quantizer.input(2)?)?;
    let (q_min, q_max) = integers(graph, uses, quantizer)?;
    let integer = |limit: f32| (limit / scale).round_ties_even() + zero_point;
    (integer(lo) <= q_min && integer(hi) >= q_max).then_some((producer, x, y))
}

fn limits(graph: &Graph, node: &Node) -> Option<(f32, f32)> {
    if node.is("Relu") {
        return Some((0.0, f32::INFINITY));
    }
    let limit = |input: usize, attribute: &str, none: f32| match node.input(input) {
        Some(id) => scalar(graph, id),
        None => Some(node.attrs.float(attribute, none)),
    };
    let limits = (limit(1, "min", f32::NEG_INFINITY)?, limit(2, "max", f32::INFINITY)?);
    node.is("Clip").then_some(limits)
}

/// The smallest and the largest integer that leave a quantizer and the integer Clip that alone reads it.
#[allow(clippy::cast_precision_loss)]
fn integers(graph: &Graph, uses: &Uses, quantizer: &Node) -> Option<(f32, f32)> {
    let (lo, hi) = graph.constant_of(quantizer.input(2)?)?.dtype().int_range()?;
    let (lo, hi) = (lo as f32, hi as f32);
    let reader = quantizer.output(0).and_then(|q| uses.only_consumer(q)).map(|i| &graph.nodes[i]);
    match reader.filter(|node| node.is("Clip")) {
        Some(clip) => {
            let bound = |i: usize, none: f32| clip.input(i).map_or(Some(none), |id| scalar(graph, id));
            Some((lo.max(bound(1, lo)?), hi.min(bound(2, hi)?)))
        }
        None => Some((lo, hi)),
    }
}

/// The one number in a constant.
#[allow(clippy::cast_precision_loss)]
fn scalar(graph: &Graph, id: ValueId) -> Option<f32> {
    let tensor = graph.constant_of(id).filter(|t| t.len() == 1)?;
    match tensor.to_f32() {
        Ok(values) => values.first().copied(),
        Err(_) => tensor.to_i64().ok()?.first().map(|&v| v as f32),
    }
}
