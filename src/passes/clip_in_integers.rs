//! Moves a Relu or Clip after its only reader, a quantizer, where it is done in integers or becomes redundant; removes
//! a Min with constants where the grid ends before all of them.
//!
//! Before: `q = QuantizeLinear(Clip(x, lo, hi), scale, zero_point)`, with or without an integer Clip behind it.
//! After: `q = Clip(QuantizeLinear(x, scale, zero_point), Q(lo), Q(hi))`, without the Clip where the grid ends there or
//! before; the node that made `x` makes the old Clip's result by name. Rounding is monotonic: integers stay equal.
//! ONNX Runtime 1.31 removes a Clip only at 8 bits and where the grid ends before it; a remaining Clip keeps the layer
//! before it in floating point.
//!
//! Refused: limits computed at run time, per-axis grids, a second reader of either tensor, a Min with caps of their own
//! for channels of which one lies within the grid (no integer Clip has limits per channel).

use crate::error::Result;
use crate::ir::{DType, Graph, Node, Tensor, Uses, ValueId};
use crate::stats::clip_bounds;

/// Returns the number of nodes moved or removed.
///
/// # Errors
/// None.
pub fn clip_in_integers(graph: &mut Graph) -> Result<usize> {
    let mut moved = 0;
    let mut i = 0;
    let mut uses = graph.uses();
    while i < graph.nodes.len() {
        let Some(found) = quantized_clip(graph, &uses, i) else {
            i += 1;
            continue;
        };
        if let Some(bounds) = found.bounds {
            limit(graph, &uses, found.quantizer, found.dtype, bounds)?;
        }
        for output in graph.nodes[found.producer].outputs.iter_mut().filter(|output| **output == Some(found.x)) {
            *output = Some(found.y);
        }
        graph.nodes.remove(i);
        uses = graph.uses();
        moved += 1;
        // What made its input may now stand before the quantizer.
        i = found.producer.min(i);
    }
    graph.sweep();
    Ok(moved)
}

/// A Relu, Clip or Min between the node `producer`, which makes `x`, and the node `quantizer`, which alone reads `y`.
struct QuantizedClip {
    producer: usize,
    x: ValueId,
    y: ValueId,
    quantizer: usize,
    dtype: DType,
    /// The limits as integers, if they are within the grid.
    bounds: Option<[i32; 2]>,
}

fn quantized_clip(graph: &Graph, uses: &Uses, index: usize) -> Option<QuantizedClip> {
    let node = &graph.nodes[index];
    let (x, y) = (node.input(0)?, node.output(0)?);
    let (lo, hi) = limits(graph, node)?;
    let reader = uses.only_consumer(y)?;
    let quantizer = &graph.nodes[reader];
    let producer = uses.producer(x).filter(|_| uses.only_consumer(x) == Some(index))?;
    if !quantizer.is("QuantizeLinear") || quantizer.input(0) != Some(y) || uses.is_output(quantizer.output(0)?) {
        return None;
    }
    let scale = scalar(graph, quantizer.input(1)?)?;
    let zero_point = scalar(graph, quantizer.input(2)?)?;
    let dtype = graph.constant_of(quantizer.input(2)?)?.dtype();
    let (q_min, q_max) = integers(graph, uses, quantizer)?;
    let integer = |limit: f32| ((limit / scale).round_ties_even() + zero_point).clamp(q_min, q_max);
    let (low, high) = (integer(lo), integer(hi));
    let bounds = (low > q_min || high < q_max).then_some([low as i32, high as i32]);
    if bounds.is_some() && caps_differ(graph, node) {
        return None;
    }
    Some(QuantizedClip { producer, x, y, quantizer: reader, dtype, bounds })
}

/// Narrows the integer Clip after a quantizer, or inserts one.
fn limit(graph: &mut Graph, uses: &Uses, quantizer: usize, dtype: DType, bounds: [i32; 2]) -> Result<()> {
    let Some(q) = graph.nodes[quantizer].output(0) else { return Ok(()) };
    let mut ids = [q; 2];
    for (id, (bound, name)) in ids.iter_mut().zip(bounds.into_iter().zip(["min", "max"])) {
        let name = format!("{}_{name}", graph.name_of(q));
        *id = graph.add_constant(&name, Tensor::from_ints(dtype, &[], &[bound])?);
    }
    if let Some(clip) = uses.only_consumer(q).filter(|&reader| graph.nodes[reader].is("Clip")) {
        graph.nodes[clip].inputs = vec![Some(q), Some(ids[0]), Some(ids[1])];
        return Ok(());
    }
    let clipped = graph.add_value(&format!("{}_clipped", graph.name_of(q)));
    graph.replace_uses(q, clipped);
    let mut clip = Node::new("Clip", [q, ids[0], ids[1]], [clipped], []);
    clip.name = format!("{}_node", graph.name_of(clipped));
    graph.nodes.insert(quantizer + 1, clip);
    Ok(())
}

/// Returns whether a Min has more than one cap.
fn caps_differ(graph: &Graph, node: &Node) -> bool {
    let several = |id: ValueId| graph.constant_of(id).is_none_or(|caps| caps.len() > 1);
    node.is("Min") && node.input(1).is_some_and(several)
}

fn limits(graph: &Graph, node: &Node) -> Option<(f32, f32)> {
    if node.is("Relu") {
        return Some((0.0, f32::INFINITY));
    }
    let shape = |id: Option<ValueId>| graph.value(id?).shape.as_ref();
    let widens = shape(node.input(0)).is_none() || shape(node.input(0)) != shape(node.output(0));
    if node.is("Min") && node.inputs.len() == 2 && !widens {
        let caps = graph.constant_of(node.input(1)?)?.to_f32().ok()?;
        return Some((f32::NEG_INFINITY, caps.into_iter().reduce(f32::min)?));
    }
    clip_bounds(graph, node).map(|[lo, hi]| (lo, hi))
}

/// Returns the range of integers after a quantizer and the integer Clip that is its only reader, if any.
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

/// Returns the number in a constant of one element.
fn scalar(graph: &Graph, id: ValueId) -> Option<f32> {
    let tensor = graph.constant_of(id).filter(|t| t.len() == 1)?;
    match tensor.to_f32() {
        Ok(values) => values.first().copied(),
        Err(_) => tensor.to_i64().ok()?.first().map(|&v| v as f32),
    }
}
