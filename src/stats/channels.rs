//! Channel moments after operators that rearrange, pad or concatenate tensors.

use std::collections::HashMap;

use super::{ClippedNormal, Moments};
use crate::ir::{Graph, Node, ValueId};

/// Channels stay separate where axis 1 keeps its size or is flattened with later axes; else they are pooled.
pub(super) fn rearranged(graph: &Graph, node: &Node, x: &Moments) -> Option<Moments> {
    let size = |id: Option<ValueId>| graph.value(id?).shape.as_ref()?.get(1)?.known();
    let (before, after) = (size(node.input(0)), size(node.output(0)));
    let channels = x.0.len();
    let flattens = matches!(node.op_type.as_str(), "Reshape" | "Flatten");
    match (before, after) {
        (Some(b), Some(a)) if b == channels && a == b && node.op_type != "Transpose" => Some(x.clone()),
        (Some(b), Some(a)) if b == channels && flattens && a > b && a % b == 0 => {
            Some(Moments(x.0.iter().flat_map(|c| std::iter::repeat_n(*c, a / b)).collect()))
        }
        _ => Some(Moments(vec![pooled(&x.0)?])),
    }
}

fn pooled(channels: &[ClippedNormal]) -> Option<ClippedNormal> {
    let n = channels.len() as f64;
    let moments: Vec<(f64, f64)> = channels.iter().map(ClippedNormal::moments).collect();
    let mean = moments.iter().map(|m| m.0).sum::<f64>() / n;
    let second = moments.iter().map(|(m, v)| v + m * m).sum::<f64>() / n;
    let lo = channels.iter().map(|c| c.lo).reduce(f64::min)?;
    let hi = channels.iter().map(|c| c.hi).reduce(f64::max)?;
    Some(ClippedNormal { mean, std: (second - mean * mean).max(0.0).sqrt(), lo, hi })
}

/// Padding of channels with zeros adds channels that are zero; other padding changes little.
pub(super) fn padded(graph: &Graph, node: &Node, x: &Moments) -> Option<Moments> {
    let pads = match node.input(1) {
        Some(id) => graph.constant_of(id)?.to_i64().ok()?,
        None => node.ints("pads")?.to_vec(),
    };
    let rank = pads.len() / 2;
    let at = |i: usize| pads.get(i).and_then(|&p| usize::try_from(p).ok());
    let (before, after) = (at(1)?, at(rank + 1)?);
    if before + after == 0 {
        return Some(x.clone());
    }
    let channels = main_axis(graph, node.input(0)?)?;
    let zeros = |n| std::iter::repeat_n(ClippedNormal::new(0.0, 0.0), n);
    let old = (0..channels).map(|i| *x.channel(i));
    (x.0.len() == channels || x.0.len() == 1).then(|| Moments(zeros(before).chain(old).chain(zeros(after)).collect()))
}

pub(super) fn concat(graph: &Graph, node: &Node, known: &HashMap<ValueId, Moments>) -> Option<Moments> {
    let mut channels = Vec::new();
    for id in node.inputs.iter().flatten() {
        let moments = known.get(id)?;
        let n = main_axis(graph, *id).filter(|&n| n == moments.0.len() || moments.0.len() == 1)?;
        channels.extend((0..n).map(|i| *moments.channel(i)));
    }
    match node.attrs.int("axis", 1) {
        1 => Some(Moments(channels)),
        _ => Some(Moments(vec![pooled(&channels)?])),
    }
}

fn main_axis(graph: &Graph, id: ValueId) -> Option<usize> {
    graph.value(id).shape.as_ref()?.get(1)?.known()
}
