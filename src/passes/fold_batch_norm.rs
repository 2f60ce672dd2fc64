//! Folds inference-mode BatchNormalization into the Conv, ConvTranspose, Gemm or MatMul before it, or into the one behind
//! it. A MatMul becomes a Gemm, which has a bias.
//!
//! Before: `y = BatchNormalization(Conv(x, w, b), gamma, beta, mean, var)`.
//! After: `y = Conv(x, s·w, s·(b - mean) + beta)` with `s = gamma / sqrt(var + epsilon)`.
//! Behind: `Conv(BatchNormalization(x), w, b)` becomes `Conv(x, w·s, b + Σ w·t)` with `t = beta - s·mean`.
//!
//! Refused: statistics or weights that are no constants, training mode, a convolution whose result (or a
//! normalisation whose result) has another reader or is a graph output, and, behind, a padded convolution with
//! `t ≠ 0`: padding is zero in the normalised tensor and would not be in the folded one.

use super::layer_constants::LayerConstants;
use crate::error::Result;
use crate::ir::{Graph, Uses};
use crate::stats::batch_norm_of;

/// Folds what can be folded and returns how many nodes went away.
///
/// # Errors
/// When weights are not floating-point.
pub fn fold_batch_norm(graph: &mut Graph) -> Result<usize> {
    let mut folded = 0;
    while fold_one(graph)? {
        folded += 1;
    }
    graph.sweep();
    Ok(folded)
}

fn fold_one(graph: &mut Graph) -> Result<bool> {
    let uses = graph.uses();
    for i in 0..graph.nodes.len() {
        let Some(norm) = batch_norm_of(graph, &graph.nodes[i]) else { continue };
        let (scale, shift) = norm.affine();
        if let Some(layer) = layer_before(graph, &uses, i)
            && let Some(folded) = LayerConstants::read(graph, layer)?.and_then(|l| l.scale_outputs(&scale, &shift))
        {
            folded.write(graph, layer)?;
            graph.nodes[layer].outputs = graph.nodes[i].outputs.clone();
            graph.nodes.remove(i);
            return Ok(true);
        }
        if let Some(layer) = layer_behind(graph, &uses, i)
            && let Some(folded) = LayerConstants::read(graph, layer)?.and_then(|l| l.scale_inputs(&scale, &shift))
        {
            folded.write(graph, layer)?;
            graph.nodes[layer].inputs[0] = graph.nodes[i].input(0);
            graph.nodes.remove(i);
            return Ok(true);
        }
    }
    Ok(false)
}

fn layer_before(graph: &Graph, uses: &Uses, norm: usize) -> Option<usize> {
    let x = graph.nodes[norm].input(0)?;
    uses.producer(x).filter(|_| uses.only_consumer(x).is_some())
}

fn layer_behind(graph: &Graph, uses: &Uses, norm: usize) -> Option<usize> {
    let y = graph.nodes[norm].output(0)?;
    let layer = uses.only_consumer(y)?;
    (graph.nodes[layer].input(0) == Some(y)).then_some(layer)
}
