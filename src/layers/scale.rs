//! Scaling of the channels between two layers: outputs stay equal but for rounding.
//!
//! Before: `second(f(first(x)))`. After: row `i` of the first weight and its bias over `s[i]`, column `i` of the second
//! times `s[i]`. A `Clip(0, hi)` between them becomes `Relu` and `Min` with `hi / s[i]` per channel; its tensor keeps
//! its name.

use super::bias::{read_bias, write_bias};
use super::link::{Link, clip_limits};
use super::rows::Rows;
use crate::error::Result;
use crate::ir::{Graph, Node, Tensor, ValueId};
use crate::stats::BatchNorm;

/// Divides the channels of `link` by `factors` (one per output channel of the first layer), and with them the
/// statistics of the tensor that the first layer makes.
///
/// # Errors
/// When weights or biases cannot be read.
pub fn scale_channels(graph: &mut Graph, norms: &mut [BatchNorm], link: &Link, factors: &[f64]) -> Result<()> {
    let (Some(mut first), Some(mut second)) =
        (Rows::read(graph, &graph.nodes[link.first])?, Rows::read(graph, &graph.nodes[link.second])?)
    else {
        return Ok(());
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
    if graph.nodes[link.first].input(2).is_some()
        && let Some(mut bias) = read_bias(graph, &graph.nodes[link.first], factors.len())?
    {
        bias.iter_mut().zip(factors).for_each(|(b, s)| *b = narrow(f64::from(*b) / s));
        write_bias(graph, link.first, &bias);
    }
    for (node, rows) in [(link.first, first), (link.second, second)] {
        if let Some(id) = graph.nodes[node].input(1) {
            graph.value_mut(id).constant = Some(rows.tensor());
        }
    }
    let made = graph.nodes[link.first].output(0).map(|id| graph.name_of(id).to_owned());
    for norm in norms.iter_mut().filter(|n| Some(&n.output) == made.as_ref()) {
        for parameter in [&mut norm.beta, &mut norm.gamma] {
            parameter.iter_mut().zip(factors).for_each(|(p, s)| *p = narrow(f64::from(*p) / s));
        }
    }
    if let Some(clip) = link.clip {
        scale_clip(graph, clip, factors);
    }
    Ok(())
}

/// The second node goes to the end; the caller sorts the graph when node indices are no longer needed.
fn scale_clip(graph: &mut Graph, index: usize, factors: &[f64]) {
    let node = &graph.nodes[index];
    let (Some(y), Some((_, hi))) = (node.output(0), clip_limits(graph, node)) else { return };
    let caps: Vec<f32> = factors.iter().map(|s| narrow(f64::from(hi) / s)).collect();
    let name = graph.name_of(y).to_owned();
    let rectified: ValueId = graph.add_value(&format!("{name}_rectified"));
    let (dtype, shape) = (graph.value(y).dtype, graph.value(y).shape.clone());
    let rank = shape.as_ref().map_or(4, Vec::len);
    graph.value_mut(rectified).dtype = dtype;
    graph.value_mut(rectified).shape = shape;
    let mut dims = vec![1; rank.saturating_sub(1).max(1)];
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

#[allow(clippy::cast_possible_truncation)]
fn narrow(value: f64) -> f32 {
    value as f32
}
