//! Scaling of the channels between two layers: outputs stay equal but for rounding.
//!
//! Before: `second(f(first(x)))`. After: row `i` of the first weight and its bias over `s[i]`, column `i` of the second
//! times `s[i]`. A `Clip(0, hi)` between them becomes `Relu` and `Min` with `hi / s[i]` per channel; its tensor keeps
//! its name.

use super::bias::{read_bias, write_bias};
use super::link::Link;
use super::rows::Rows;
use crate::error::Result;
use crate::ir::{Graph, Node, Tensor, ValueId};
use crate::stats::{BatchNorm, clip_bounds};

/// Divides the channels of `link` by `factors` (one per output channel of the first layer), and with them the
/// statistics of the tensors between the layers; changes nothing and returns false where a value would leave float32.
///
/// # Errors
/// When weights or biases cannot be read.
pub fn scale_channels(graph: &mut Graph, norms: &mut [BatchNorm], link: &Link, factors: &[f64]) -> Result<bool> {
    let (Some(mut first), Some(mut second)) =
        (Rows::read(graph, &graph.nodes[link.first])?, Rows::read(graph, &graph.nodes[link.second])?)
    else {
        return Ok(false);
    };
    let width = first.width();
    for (o, row) in first.values.chunks_mut(width).enumerate() {
        row.iter_mut().for_each(|w| *w = narrow(f64::from(*w) / factors[o]));
    }
    let (width, channels) = (second.width(), second.clone());
    for (o, row) in second.values.chunks_mut(width).enumerate() {
        for (k, w) in row.iter_mut().enumerate() {
            *w = narrow(f64::from(*w) * factors[channels.input_channel(o, k) / link.repeat]);
        }
    }
    let mut bias = match graph.nodes[link.first].input(2) {
        Some(_) => read_bias(graph, &graph.nodes[link.first], factors.len())?,
        None => None,
    };
    bias.iter_mut().flatten().zip(factors).for_each(|(b, s)| *b = narrow(f64::from(*b) / s));
    let mut changed = first.values.iter().chain(&second.values).chain(bias.iter().flatten());
    if !changed.all(|v| v.is_finite()) {
        return Ok(false);
    }
    if let Some(bias) = bias {
        write_bias(graph, link.first, &bias);
    }
    for (node, rows) in [(link.first, first), (link.second, second)] {
        if let Some(id) = graph.nodes[node].input(1) {
            graph.value_mut(id).constant = Some(rows.tensor());
        }
    }
    for norm in link.norms(graph, norms) {
        let repeat = (norm.beta.len() / factors.len()).max(1);
        for parameter in [&mut norm.beta, &mut norm.gamma] {
            parameter.chunks_mut(repeat).zip(factors).for_each(|(same, s)| {
                same.iter_mut().for_each(|p| *p = narrow(f64::from(*p) / s));
            });
        }
    }
    if let Some(clip) = link.clip {
        let channels_last = graph.nodes[link.first].is("MatMul");
        scale_clip(graph, clip, factors, channels_last);
    }
    Ok(true)
}

/// The second node goes to the end; the caller sorts the graph when node indices are no longer needed.
fn scale_clip(graph: &mut Graph, index: usize, factors: &[f64], channels_last: bool) {
    let node = &graph.nodes[index];
    let (Some(y), Some([_, hi])) = (node.output(0), clip_bounds(graph, node)) else { return };
    let (dtype, shape) = (graph.value(y).dtype, graph.value(y).shape.clone());
    let rank = shape.as_ref().map_or(2, Vec::len).max(2);
    let axis = if channels_last { rank - 1 } else { 1 };
    let size = shape.as_ref().and_then(|s| s.get(axis)?.known()).unwrap_or(factors.len());
    let caps = factors.iter().flat_map(|s| std::iter::repeat_n(narrow(f64::from(hi) / s), size / factors.len()));
    let caps: Vec<f32> = caps.map(|cap| cap.min(f32::MAX)).collect();
    let name = graph.name_of(y).to_owned();
    let rectified: ValueId = graph.add_value(&format!("{name}_rectified"));
    graph.value_mut(rectified).dtype = dtype;
    graph.value_mut(rectified).shape = shape;
    let mut dims = vec![1; rank - axis];
    dims[0] = caps.len();
    let caps = graph.add_constant(&format!("{name}_caps"), Tensor::from_f32(&dims, &caps));
    let mut capped = Node::new("Min", [rectified, caps], [y], []);
    capped.name = format!("{name}_cap");
    let node = &mut graph.nodes[index];
    node.op_type = "Relu".to_owned();
    node.inputs.truncate(1);
    node.outputs = vec![Some(rectified)];
    node.attrs = [].into();
    graph.nodes.push(capped);
}

fn narrow(value: f64) -> f32 {
    value as f32
}
