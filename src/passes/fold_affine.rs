//! Folds per-channel Add, Sub, Mul and Div with constants after a Conv, ConvTranspose, Gemm, MatMul or
//! BatchNormalization into its weight and bias, or into its scale and shift.
//!
//! Before: `y = Add(Mul(Conv(x, w), s), t)` with `s` and `t` of shape `[C, 1, 1]`, `[1, C, 1, 1]`, `[]` and the like,
//! in any order and on either side. After: `y = Conv(x, s·w, t)`. A MatMul of matrices becomes a Gemm, which has a
//! bias; a MatMul of higher rank keeps a single Add.
//!
//! Refused: operands that are not constants, differ within a channel or broadcast the result, a result with another
//! reader or that is a graph output, numbers that would leave float32, training mode.

use super::channel_map::{Chain, Layout};
use super::layer_constants::{LayerConstants, narrow, replace_input};
use super::readers::Readers;
use crate::error::Result;
use crate::ir::{Graph, Tensor, Uses};
use crate::stats::{BatchNorm, batch_norm_of};

/// Folds what can be folded and returns the number of removed nodes.
///
/// # Errors
/// When the bias of a layer is not floating-point.
pub fn fold_affine(graph: &mut Graph) -> Result<usize> {
    let (uses, mut readers) = (graph.uses(), Readers::of(graph));
    let mut is_folded = vec![false; graph.nodes.len()];
    for index in 0..graph.nodes.len() {
        let folded = match batch_norm_of(graph, &graph.nodes[index]) {
            Some(norm) => fold_into_norm(graph, &uses, &mut readers, index, &norm)?,
            None => fold_into_layer(graph, &uses, &mut readers, index)?,
        };
        folded.into_iter().for_each(|node| is_folded[node] = true);
    }
    let folded = graph.retain_nodes(|node| !is_folded[node]);
    graph.sweep();
    Ok(folded)
}

/// Returns the folded nodes.
fn fold_into_layer(graph: &mut Graph, uses: &Uses, readers: &mut Readers, index: usize) -> Result<Vec<usize>> {
    let node = &graph.nodes[index];
    let weight_rank = node.input(1).and_then(|id| graph.constant_of(id)).map(|weight| weight.shape().len());
    let Some(constants) = LayerConstants::read(graph, index)? else { return Ok(Vec::new()) };
    let Some(layout) = Layout::of(graph, node, constants.outputs(), weight_rank) else { return Ok(Vec::new()) };
    let Some(chain) = Chain::behind(graph, uses, index, &layout) else { return Ok(Vec::new()) };
    if !constants.takes_bias() {
        return fold_scale(graph, readers, index, constants, chain);
    }
    let Some(folded) = constants.scale_outputs(&chain.map.scale, &chain.map.shift) else { return Ok(Vec::new()) };
    folded.write(graph, readers, index)?;
    bypass(graph, index, &chain.nodes);
    Ok(chain.nodes)
}

/// Folds the scale into a MatMul without a bias; the last node of the chain keeps the shift.
fn fold_scale(
    graph: &mut Graph,
    readers: &mut Readers,
    index: usize,
    constants: LayerConstants,
    chain: Chain,
) -> Result<Vec<usize>> {
    let Chain { map, mut nodes } = chain;
    if map.only_shifts() && nodes.len() == 1 {
        return Ok(Vec::new());
    }
    let shift: Option<Vec<f32>> = map.shift.iter().map(|&t| narrow(t)).collect();
    let (Some(shift), Some(folded)) = (shift, constants.scale_weight(&map.scale)) else { return Ok(Vec::new()) };
    folded.write(graph, readers, index)?;
    if shift.iter().all(|&t| t == 0.0) {
        bypass(graph, index, &nodes);
        return Ok(nodes);
    }
    let (Some(last), Some(y)) = (nodes.pop(), graph.nodes[index].output(0)) else { return Ok(Vec::new()) };
    let name = graph.nodes[last].output(0).map_or("layer", |id| graph.name_of(id));
    let shift = graph.add_constant(&format!("{name}_shift"), Tensor::from_f32(&[shift.len()], &shift));
    graph.nodes[last].op_type = "Add".to_owned();
    graph.nodes[last].inputs = vec![Some(y), Some(shift)];
    Ok(nodes)
}

/// Returns the folded nodes.
fn fold_into_norm(
    graph: &mut Graph,
    uses: &Uses,
    readers: &mut Readers,
    index: usize,
    norm: &BatchNorm,
) -> Result<Vec<usize>> {
    let channels = norm.gamma.len();
    let Some(layout) = Layout::of(graph, &graph.nodes[index], channels, None) else { return Ok(Vec::new()) };
    let Some(Chain { map, nodes }) = Chain::behind(graph, uses, index, &layout) else { return Ok(Vec::new()) };
    let scaled =
        |values: &[f32]| -> Vec<f64> { values.iter().zip(&map.scale).map(|(&v, s)| f64::from(v) * s).collect() };
    let gamma: Option<Vec<f32>> = scaled(&norm.gamma).into_iter().map(narrow).collect();
    let beta: Option<Vec<f32>> = scaled(&norm.beta).iter().zip(&map.shift).map(|(v, t)| narrow(v + t)).collect();
    let (Some(gamma), Some(beta)) = (gamma, beta) else { return Ok(Vec::new()) };
    for (slot, values) in [(1, gamma), (2, beta)] {
        let Some(old) = graph.nodes[index].input(slot) else { continue };
        let Some(dtype) = graph.constant_of(old).map(Tensor::dtype) else { continue };
        let name = graph.name_of(old).to_owned();
        let new = graph.add_constant(&name, Tensor::from_floats(dtype, &[channels], &values)?);
        replace_input(graph, readers, index, slot, new);
    }
    bypass(graph, index, &nodes);
    Ok(nodes)
}

/// Makes node `index` produce the result of the last node of a chain.
fn bypass(graph: &mut Graph, index: usize, chain: &[usize]) {
    if let Some(&last) = chain.last() {
        graph.nodes[index].outputs = graph.nodes[last].outputs.clone();
    }
}
