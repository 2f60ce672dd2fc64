//! Converts float weights to grids and integers, for any rounding.

use crate::error::{Error, Result};
use crate::ir::{Graph, Tensor};
use crate::layers::{LayerStep, Rows, added_constant};
use crate::onnx;
use crate::parallel;
use crate::plan::Plan;
use crate::quant::{ChannelLayout, Grid, QuantizedTensor, quantize_bias, round_to_nearest, weight_grid};
use crate::solution::{Biases, RangeSource, Solution};

/// Quantized weights, and for each the number of channels whose scale was enlarged so that biases fit int32.
#[derive(Clone)]
pub(super) struct Weights {
    pub tensors: Vec<QuantizedTensor>,
    pub enlarged: Vec<(String, usize)>,
}

impl Weights {
    /// Returns the solution with these weights and activation grids, and the biases of the float network.
    pub fn solution(self, activations: Vec<Grid>, sources: Vec<RangeSource>, steps: Vec<LayerStep>) -> Solution {
        let Self { tensors: weights, enlarged } = self;
        Solution { activations, sources, weights, enlarged, biases: Biases::new(), steps }
    }
}

/// Returns every weight of the plan on the grid with the least squared error, rounded to nearest.
pub(super) fn nearest_weights(float: &Graph, plan: &Plan, activations: &[Grid], threads: usize) -> Result<Weights> {
    let fit = BiasFit { float, plan, activations, biases: None };
    let one = |index: usize, threads: usize| -> Result<(usize, QuantizedTensor)> {
        let weight = &plan.weights[index];
        let tensor = constant(float, &weight.tensor)?;
        let values = tensor.to_f32()?;
        let layout = ChannelLayout::along(tensor.shape(), weight.scheme.axis);
        let (grid, changed) = fit.fitted(index, &weight_grid(weight.scheme, &values, layout, threads))?;
        let rounded = round_to_nearest(grid, tensor.shape(), &values);
        onnx::release_pages();
        Ok((changed, rounded))
    };
    let size = |index: &usize| constant(float, &plan.weights[*index].tensor).map_or(0, Tensor::len);
    let mut weights = Weights { tensors: Vec::with_capacity(plan.weights.len()), enlarged: Vec::new() };
    let made = parallel::map_by_size(threads, 0..plan.weights.len(), size, one);
    for (weight, made) in plan.weights.iter().zip(made) {
        let (changed, tensor) = made?;
        if changed > 0 {
            weights.enlarged.push((weight.tensor.clone(), changed));
        }
        weights.tensors.push(tensor);
    }
    Ok(weights)
}

/// Returns the node index of the first layer that uses weight `index`, and the weight as rows, if supported.
pub(super) fn rows_of(float: &Graph, plan: &Plan, index: usize) -> Result<Option<(usize, Rows)>> {
    let layers = plan.layers.iter().filter(|l| l.weight == Some(index)).map(|l| &l.output);
    let alone = plan.weight_only.iter().filter(|l| l.weight == index).map(|l| &l.output);
    let node = layers.chain(alone).next().and_then(|output| node_of(float, output));
    let Some(node) = node else { return Ok(None) };
    Ok(Rows::read(float, &float.nodes[node])?.map(|rows| (node, rows)))
}

/// Returns the index of the node that computes `output`.
pub(super) fn node_of(float: &Graph, output: &str) -> Option<usize> {
    let id = float.find(output)?;
    float.nodes.iter().position(|n| n.output(0) == Some(id))
}

/// Returns the input-channel axis of a layer's first input.
pub(super) fn channel_axis(float: &Graph, node: usize) -> usize {
    let node = &float.nodes[node];
    let rank = node.input(0).and_then(|id| float.value(id).shape.as_ref().map(Vec::len));
    if node.is("MatMul") { rank.unwrap_or(2).max(1) - 1 } else { 1 }
}

/// Returns integers in the order of `rows`, one byte each, as a quantized weight.
pub(super) fn tensor_of(rows: &Rows, grid: Grid, integers: &[u8]) -> QuantizedTensor {
    QuantizedTensor { grid, shape: rows.shape().to_vec(), bytes: rows.scatter(integers).into() }
}

pub(super) fn constant<'a>(float: &'a Graph, name: &str) -> Result<&'a Tensor> {
    let found = float.find(name).and_then(|id| float.constant_of(id));
    found.ok_or_else(|| Error::Plan(format!("the plan names weight \"{name}\", which the graph lacks")))
}

/// The biases of layers and the scales of their inputs, which the scales of their weights have to fit.
pub(super) struct BiasFit<'a> {
    pub float: &'a Graph,
    pub plan: &'a Plan,
    pub activations: &'a [Grid],
    /// The biases that differ from those of the float network, if any.
    pub biases: Option<&'a Biases>,
}

impl BiasFit<'_> {
    /// Returns the grid of weight `index` and the number of its scales that were enlarged: where a bias of one of its
    /// layers would overflow int32, or where the product with the input's scale would not be a normal float. Biases
    /// that are float in the file are included: ONNX Runtime converts them to int32 when it optimizes.
    ///
    /// # Errors
    /// When the values of a bias cannot be read.
    pub fn fitted(&self, index: usize, grid: &Grid) -> Result<(Grid, usize)> {
        let Self { float, plan, activations, biases } = self;
        let mut scale = grid.scale.clone();
        for layer in plan.layers.iter().filter(|l| l.weight == Some(index)) {
            let bias = match (biases.and_then(|own| own.get(&layer.output)), float.maker(&layer.output)) {
                (Some(own), _) => Some(own.clone()),
                (None, node) => node.map(|node| added_constant(float, node)).transpose()?.flatten(),
            };
            let bias = match bias {
                Some(values) if scale.len() == 1 || scale.len() == values.len() => values,
                Some(values) if values.len() == 1 => vec![values[0]; scale.len()],
                _ => vec![0.0; scale.len()],
            };
            scale = quantize_bias(&bias, activations[layer.input].scale[0], &scale).weight_scale;
        }
        let changed = scale.iter().zip(&grid.scale).filter(|(new, old)| new != old).count();
        Ok((Grid { scale, ..grid.clone() }, changed))
    }
}
