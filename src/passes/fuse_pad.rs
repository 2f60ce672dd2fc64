//! Moves a zero Pad into the `pads` of the Conv that is its only reader.
//!
//! Before: `y = Conv(Pad(x, [0, 0, t, l, 0, 0, b, r]), w) pads=p`. After: `y = Conv(x, w) pads=p + [t, l, b, r]`.
//! Integer kernels need the quantized tensor directly before the Conv.
//!
//! Refused: other modes than constant 0, padding of batch or channels, negative padding, padding that is not a
//! constant, a Pad whose result has another reader or is a graph output, and `auto_pad`.

use crate::error::Result;
use crate::ir::{Graph, Node, Uses};

/// Fuses what can be fused and returns the number of removed Pads.
///
/// # Errors
/// None.
pub fn fuse_pad(graph: &mut Graph) -> Result<usize> {
    let uses = graph.uses();
    // What a fused Pad read, its convolution reads.
    let mut stands_for: Vec<usize> = (0..graph.nodes.len()).collect();
    // From the back, so that of Pads in a row the last one goes first.
    for pad in (0..graph.nodes.len()).rev() {
        let Some((conv, pads)) = fusible(graph, &uses, pad, &stands_for) else { continue };
        graph.nodes[conv].inputs[0] = graph.nodes[pad].input(0);
        graph.nodes[conv].set("pads", pads);
        stands_for[pad] = conv;
    }
    let fused = graph.retain_nodes(|node| stands_for[node] == node);
    graph.sweep();
    Ok(fused)
}

/// Returns the convolution for the Pad at `index`, and its new padding.
fn fusible(graph: &Graph, uses: &Uses, index: usize, stands_for: &[usize]) -> Option<(usize, Vec<i64>)> {
    let pad = &graph.nodes[index];
    let reader = stands_for[uses.only_consumer(pad.output(0)?).filter(|_| pad.is("Pad"))?];
    let conv = &graph.nodes[reader];
    let auto_pad = conv.attrs.string("auto_pad").unwrap_or("NOTSET");
    let added = zero_padding(graph, pad)?;
    let spatial = added.len() / 2;
    if !conv.is("Conv") || conv.input(0) != pad.output(0) || auto_pad != "NOTSET" || spatial < 3 {
        return None;
    }
    let (begin, end) = added.split_at(spatial);
    if added.iter().any(|&p| p < 0) || [begin, end].iter().any(|half| half[..2] != [0, 0]) {
        return None;
    }
    let added = begin[2..].iter().chain(&end[2..]);
    let pads = match conv.ints("pads") {
        Some(pads) => pads.iter().zip(added).map(|(p, a)| p + a).collect(),
        None => added.copied().collect(),
    };
    Some((reader, pads))
}

/// Returns the `pads` of a Pad with zeros.
fn zero_padding(graph: &Graph, pad: &Node) -> Option<Vec<i64>> {
    if pad.attrs.string("mode").unwrap_or("constant") != "constant" || pad.input(3).is_some() {
        return None;
    }
    let value = match pad.input(2) {
        Some(id) => *graph.constant_of(id)?.to_f32().ok()?.first()?,
        None => pad.attrs.float("value", 0.0),
    };
    let pads = match pad.input(1) {
        Some(id) => graph.constant_of(id)?.to_i64().ok()?,
        None => pad.ints("pads")?.to_vec(),
    };
    (value == 0.0).then_some(pads)
}
