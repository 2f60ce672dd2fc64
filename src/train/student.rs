//! The quantized student as expressions: the float network with a fake quantizer wherever the emitted model has Q/DQ.

use std::collections::HashMap;

use super::TrainedVector;
use super::blocks::{Block, inputs_on, segment};
use super::fake_quantize::fake_quantize;
use crate::error::{Error, Result};
use crate::expr::{Builder, Expr, Inlined, OPSET, inline};
use crate::ir::{DType, Graph, Tensor, ValueId};
use crate::place::{layer_of, place};
use crate::plan::{Layer, Plan};
use crate::quant::{ChannelLayout, Grid, QuantizedTensor};
use crate::solution::{Biases, Solution};
use crate::{onnx, shape};

/// The largest distance of a starting weight from the center of its integer's rounding interval, in units of the scale;
/// at one half the first steps of training would change many integers at once.
const INSIDE: f32 = 0.25;

/// The initial activation scales over the calibrated ones, minus 1: the cap of a ReLU6 lies at the very end of its
/// grid, where the last bit of `exp(log s)` would decide whether it passes gradients.
const WIDER: f32 = 2e-6;
/// The typical magnitude of values relative to the largest on their grid.
const TYPICAL: f32 = 0.125;

/// The role of a trained tensor.
#[derive(Clone, Copy, Debug)]
pub(super) enum Role {
    /// An activation on the grid of this index, which is also the index of its scale.
    Activation(usize),
    /// A weight: its index among the weights of the plan, and among the trained tensors.
    Weight(usize, usize),
    /// A bias: its index among the trained tensors.
    Bias(usize),
}

/// A trainable student: weights and biases of the planned layers in one vector, the logarithms of all scales in
/// another. Zero points are fixed, and so are the weights of layers that stay float.
///
/// At a learning rate of 1, a step of Adam moves each weight by its scale, each bias by the change of the layer's
/// output that one step on the weight and input grids causes, and the ends of each grid by its scale.
#[derive(Clone, Debug)]
pub struct Student {
    pub(super) graph: Graph,
    /// Activation grids.
    pub(super) grids: Vec<Grid>,
    /// Quantized weights at the start of training.
    pub(super) quantized: Vec<QuantizedTensor>,
    /// The names of the float weights.
    sources: Vec<String>,
    pub(super) roles: HashMap<String, Role>,
    /// The layers with trained biases: the names of the layer's output and of its bias.
    biases: Vec<(String, String)>,
    /// Weights and biases.
    pub weights: TrainedVector,
    /// Logarithms of scales: those of activations, then those of weights.
    pub scales: TrainedVector,
}

impl Student {
    /// Returns the student of a float network, its plan and a recipe's solution. Its forward pass matches the emitted
    /// model, up to the rounding of biases.
    ///
    /// # Errors
    /// When the plan or the solution does not belong to the network, or its opset cannot be raised.
    pub fn new(float: &Graph, plan: &Plan, solution: &Solution) -> Result<Self> {
        let mut graph = float.clone();
        onnx::upgrade(&mut graph, OPSET)?;
        shape::infer(&mut graph)?;
        let placed = place(&graph, plan, &solution.biases)?;
        let mut student = Self {
            graph: placed.graph,
            grids: solution.activations.clone(),
            quantized: solution.weights.clone(),
            sources: plan.weights.iter().map(|weight| weight.tensor.clone()).collect(),
            roles: HashMap::new(),
            biases: Vec::new(),
            weights: TrainedVector::default(),
            scales: TrainedVector::default(),
        };
        for (activation, grid) in plan.activations.iter().zip(&solution.activations) {
            student.add_scale(activation.tensors.first().map_or("", String::as_str), grid, WIDER)?;
        }
        for activation in placed.activations {
            let name = student.graph.name_of(activation.y).to_owned();
            student.roles.insert(name, Role::Activation(activation.grid));
        }
        for (index, (y, weight)) in placed.weights.into_iter().zip(&plan.weights).enumerate() {
            let y =
                y.ok_or_else(|| Error::Plan(format!("no layer reads the weight \"{}\" of the plan", weight.tensor)))?;
            student.add_weight(index, &weight.tensor, y)?;
        }
        for layer in &plan.layers {
            student.add_bias(layer)?;
        }
        student.graph.sort()?;
        shape::infer(&mut student.graph)?;
        Ok(student)
    }

    fn add_scale(&mut self, name: &str, grid: &Grid, wider: f32) -> Result<()> {
        let logarithms: Vec<f32> = grid.scale.iter().map(|&s| libm::logf(s) + wider).collect();
        let units: Vec<f32> = (0..logarithms.len()).map(|channel| 1.0 / grid.farthest(channel)).collect();
        self.scales.add(name, &[logarithms.len()], &logarithms, &units)?;
        Ok(())
    }

    fn add_weight(&mut self, index: usize, tensor: &str, y: ValueId) -> Result<()> {
        let name = self.graph.name_of(y).to_owned();
        let constant = self.graph.find(tensor).and_then(|id| self.graph.constant_of(id));
        let values = constant.ok_or_else(|| Error::Plan(format!("the weight \"{tensor}\" of the plan is computed")))?;
        let found = self.quantized.get(index).map(|quantized| &quantized.shape[..]);
        if found != Some(values.shape()) {
            let message = format!("the weight \"{tensor}\" is {:?}, the solution has {found:?} for it", values.shape());
            return Err(Error::Plan(message));
        }
        let (shape, values) = (values.shape().to_vec(), values.to_f32()?);
        let quantized = self.quantized[index].clone();
        self.add_scale(&name, &quantized.grid, 0.0)?;
        let layout = ChannelLayout::along(&quantized.shape, quantized.grid.scheme.axis);
        let units: Vec<f32> = (0..values.len()).map(|i| quantized.grid.scale[layout.channel(i)]).collect();
        let trained = self.weights.add(&name, &shape, &inside(&quantized, &values), &units)?;
        self.roles.insert(name, Role::Weight(index, trained));
        Ok(())
    }

    fn add_bias(&mut self, layer: &Layer) -> Result<()> {
        let node = layer_of(&self.graph, &layer.output)?;
        let (Some(bias), Some(weight)) = (self.graph.nodes[node].input(2), layer.weight) else { return Ok(()) };
        let name = self.graph.name_of(bias).to_owned();
        let Some(values) = self.graph.constant_of(bias).filter(|tensor| tensor.shape().len() == 1) else {
            return Ok(());
        };
        self.biases.push((layer.output.clone(), name.clone()));
        if self.roles.contains_key(&name) {
            return Ok(());
        }
        let (shape, values) = (values.shape().to_vec(), values.to_f32()?);
        let (x, w) = (&self.grids[layer.input], &self.quantized[weight]);
        // An output sums products that change by one scale times the other factor, and such changes add up like noise.
        let terms = (w.bytes.len() as f32 / values.len().max(1) as f32).sqrt();
        let step = |channel: usize| {
            let w = &w.grid;
            let channel = if channel < w.scale.len() { channel } else { 0 };
            let levels = TYPICAL * (x.farthest(0) + w.farthest(channel));
            terms * levels * x.scale[0] * w.scale[channel]
        };
        let units: Vec<f32> = (0..values.len()).map(step).collect();
        let trained = self.weights.add(&name, &shape, &values, &units)?;
        self.roles.insert(name, Role::Bias(trained));
        Ok(())
    }

    /// Returns the float network with an Identity in place of each quantizer, at the opset of expressions.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Returns the initial vectors: weights `[n]` and logarithms of scales `[m]`.
    pub fn start(&self) -> [Tensor; 2] {
        [self.weights.start(), self.scales.start()]
    }

    /// Returns the student's forward pass on `inputs` with trained `weights: [n]` and `scales: [m]`.
    ///
    /// # Errors
    /// As [`inline`].
    pub fn forward<'b>(&self, inputs: &[Expr<'b>], weights: Expr<'b>, scales: Expr<'b>) -> Result<Inlined<'b>> {
        self.forward_part(&self.graph, inputs, weights, scales)
    }

    /// Returns the graph of the student between the tensors `from` (the inputs, if none) and `to`: inputs `weights`,
    /// `scales` and the part's inputs for `batch` samples, output `y` in float32.
    ///
    /// # Errors
    /// As [`Student::forward`]; a tensor of unknown dimensions.
    pub fn part_graph(&self, from: Option<&str>, to: &str, batch: usize) -> Result<Graph> {
        let part = match from {
            Some(from) => segment(&self.graph, &Block { input: from.to_owned(), output: to.to_owned() })?,
            None => {
                let mut part = self.graph.clone();
                part.cut(&[to]);
                part
            }
        };
        let builder = Builder::new("part");
        let [weights, scales] = [("weights", &self.weights), ("scales", &self.scales)]
            .map(|(name, vector)| builder.input(name, DType::F32, &[vector.layout.len()]));
        let inputs = inputs_on(&builder, &part, batch)?;
        let made = self.forward_part(&part, &inputs, weights, scales)?;
        builder.finish(&[("y", made.outputs[0].cast(DType::F32))])
    }

    fn forward_part<'b>(
        &self,
        part: &Graph,
        inputs: &[Expr<'b>],
        weights: Expr<'b>,
        scales: Expr<'b>,
    ) -> Result<Inlined<'b>> {
        let builder = weights.builder();
        let (weights, scales) = (self.weights.layout.split(weights), self.scales.layout.split(scales.exp()));
        inline(builder, part, inputs, &mut |name, x| match self.roles.get(name) {
            None => x,
            Some(&Role::Activation(grid)) => fake_quantize(x, scales[grid], &self.grids[grid]),
            Some(&Role::Weight(index, trained)) => {
                fake_quantize(weights[trained], scales[self.grids.len() + index], &self.quantized[index].grid)
            }
            Some(&Role::Bias(trained)) => weights[trained],
        })
    }

    /// Returns a float weight of the plan.
    ///
    /// # Errors
    /// When its values cannot be read.
    pub(super) fn float_weight(&self, index: usize) -> Result<Vec<f32>> {
        let constant = self.sources.get(index).and_then(|name| self.graph.constant_of(self.graph.find(name)?));
        constant.map_or(Ok(Vec::new()), Tensor::to_f32)
    }

    /// Returns the index of each weight of the plan among the trained tensors.
    pub(super) fn trained_weights(&self) -> Vec<usize> {
        let mut places = vec![0; self.quantized.len()];
        for role in self.roles.values() {
            if let Role::Weight(index, trained) = *role {
                places[index] = trained;
            }
        }
        places
    }

    /// Returns the biases among `trained` tensors, which go by their names, by the layer's output.
    ///
    /// # Errors
    /// When values cannot be read.
    pub(super) fn biases_of(&self, trained: &[(String, Tensor)]) -> Result<Biases> {
        let trained: HashMap<&str, &Tensor> = trained.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let found = self.biases.iter().filter_map(|(output, bias)| Some((output, *trained.get(bias.as_str())?)));
        found.map(|(output, values)| Ok((output.clone(), values.to_f32()?))).collect()
    }
}

/// Returns the values closest to `values` that round to the integers of `quantized`.
fn inside(quantized: &QuantizedTensor, values: &[f32]) -> Vec<f32> {
    let layout = ChannelLayout::along(&quantized.shape, quantized.grid.scheme.axis);
    let value = |(i, &w): (usize, &f32)| {
        let channel = layout.channel(i);
        let scale = quantized.grid.scale[channel];
        let middle = (quantized.integer(i) - quantized.grid.zero_point[channel]) as f32;
        (w / scale).clamp(middle - INSIDE, middle + INSIDE) * scale
    };
    values.iter().enumerate().map(value).collect()
}
