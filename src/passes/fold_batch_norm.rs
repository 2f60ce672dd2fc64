//! Folds inference-mode BatchNormalization into the Conv, ConvTranspose, Gemm or MatMul before it, or into the one
//! after it. A MatMul becomes a Gemm, which has a bias.
//!
//! Before: `y = BatchNormalization(Conv(x, w, b), gamma, beta, mean, var)`.
//! After: `y = Conv(x, s·w, s·(b - mean) + beta)` with `s = gamma / sqrt(var + epsilon)`.
//! Behind: `Conv(BatchNormalization(x), w, b)` becomes `Conv(x, w·s, b + Σ w·t)` with `t = beta - s·mean`.
//!
//! Refused: statistics or weights that are not constants, training mode, a convolution whose result (or a
//! normalization whose result) has another reader or is a graph output, and, behind, a padded convolution with
//! `t ≠ 0`: padding is zero in the normalized tensor and would not be in the folded one.

use super::layer_constants::LayerConstants;
use super::readers::Readers;
use crate::error::Result;
use crate::ir::{Graph, Uses};
use crate::stats::batch_norm_of;

/// Folds what can be folded and returns the number of removed nodes.
///
/// # Errors
/// When weights are not floating-point.
pub fn fold_batch_norm(graph: &mut Graph) -> Result<usize> {
    let mut folded = 0;
    loop {
        let found = fold_in_one_go(graph)?;
        if found == 0 {
            break;
        }
        folded += found;
    }
    graph.sweep();
    Ok(folded)
}

/// Folds each normalization that is now next to a layer; folding may bring others next to one.
fn fold_in_one_go(graph: &mut Graph) -> Result<usize> {
    let (uses, mut readers) = (graph.uses(), Readers::of(graph));
    // What a folded normalization made, a layer makes, and what it read, a layer reads: the number of uses stays.
    let mut stands_for: Vec<usize> = (0..graph.nodes.len()).collect();
    for i in 0..graph.nodes.len() {
        let Some(norm) = batch_norm_of(graph, &graph.nodes[i]) else { continue };
        let (scale, shift) = norm.affine();
        let before = layer_before(graph, &uses, i).map(|layer| stands_for[layer]);
        if let Some(layer) = before
            && let Some(folded) = LayerConstants::read(graph, layer)?.and_then(|l| l.scale_outputs(&scale, &shift))
        {
            folded.write(graph, &mut readers, layer)?;
            graph.nodes[layer].outputs = graph.nodes[i].outputs.clone();
            readers.forget(&graph.nodes[i]);
            stands_for[i] = layer;
            continue;
        }
        if let Some(layer) = layer_behind(graph, &uses, i)
            && let Some(folded) = LayerConstants::read(graph, layer)?.and_then(|l| l.scale_inputs(&scale, &shift))
        {
            folded.write(graph, &mut readers, layer)?;
            graph.nodes[layer].inputs[0] = graph.nodes[i].input(0);
            readers.forget(&graph.nodes[i]);
            graph.nodes[i].input(0).into_iter().for_each(|id| readers.add(id));
            stands_for[i] = layer;
        }
    }
    Ok(graph.retain_nodes(|node| stands_for[node] == node))
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
