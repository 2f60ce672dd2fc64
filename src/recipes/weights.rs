//! Converts float weights to grids and integers, for any rounding.

use std::collections::HashMap;

use crate::error::{Error, Result};
use crate::ir::{Graph, Tensor};
use crate::layers::{Rows, Step, added_constant};
use crate::onnx;
use crate::parallel;
use crate::plan::Plan;
use crate::quant::{ChannelLayout, Grid, QuantizedTensor, quantize_bias, round_to_nearest, weight_grid};
use crate::solution::{RangeSource, Solution};

/// Quantized weights, and for each the number of channels whose scale was enlarged so that biases fit int32.
#[derive(Clone)]
pub(super) struct Weights {
    pub tensors: Vec<QuantizedTensor>,
    pub enlarged: Vec<(String, usize)>,
}

impl Weights {
    /// Returns the solution with these weights and activation grids, without bias corrections.
    pub fn solution(self, (activations, sources): (Vec<Grid>, Vec<RangeSource>), steps: Vec<Step>) -> Solution {
        let Self { tensors: weights, enlarged } = self;
        Solution { activations, sources, weights, enlarged, corrections: HashMap::new(), steps }
    }
}

/// Returns every weight of the plan on the grid with the least squared error, rounded to nearest.
pub(super) fn nearest_weights(float: &Graph, plan: &Plan, activations: &[Grid], threads: usize) -> Result<Weights> {
    let one = |index: usize, threads: usize| -> Result<(usize, QuantizedTensor)> {
        let weight = &plan.weights[index];
        let tensor = constant(float, &weight.tensor)?;
        let values = tensor.to_f32()?;
        let layout = ChannelLayout::along(tensor.shape(), weight.scheme.axis);
        let mut grid = weight_grid(weight.scheme, &values, layout, threads);
        let fitting = fit_biases(float, plan, index, activations, &grid.scale)?;
        let changed = fitting.iter().zip(&grid.scale).filter(|(new, old)| new != old).count();
        grid.scale = fitting;
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

/// Returns the scales of weight `index`, enlarged where a bias of one of its layers would overflow int32, or where the
/// product with the input's scale would not be a normal float. Biases that are float in the file are included: ONNX
/// Runtime converts them to int32 when it optimizes.
pub(super) fn fit_biases(
    float: &Graph,
    plan: &Plan,
    index: usize,
    activations: &[Grid],
    scale: &[f32],
) -> Result<Vec<f32>> {
    let mut scale = scale.to_vec();
    for layer in plan.layers.iter().filter(|l| l.weight == Some(index)) {
        let bias = float.maker(&layer.output).map(|node| added_constant(float, node)).transpose()?.flatten();
        let bias = match bias {
            Some(values) if scale.len() == 1 || scale.len() == values.len() => values,
            Some(values) if values.len() == 1 => vec![values[0]; scale.len()],
            _ => vec![0.0; scale.len()],
        };
        scale = quantize_bias(&bias, activations[layer.input].scale[0], &scale).weight_scale;
    }
    Ok(scale)
}
