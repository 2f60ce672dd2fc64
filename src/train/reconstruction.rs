//! Block reconstruction: trains a block of the student to match the same block of its teacher, by the rounding of each
//! weight and by the scales of its quantizers.

use std::collections::{BTreeMap, HashSet};

use super::blocks::{Block, inputs_on, segment};
use super::losses::{channel_normalized_mse, rounding_regularizer, small};
use super::readout::positive;
use super::student::Role;
use super::{
    Optimiser, Player, StepParts, Student, TrainedParameters, TrainedVector, TrainingStep, entry, fake_quantize,
    training_step,
};
use crate::error::{Error, Result};
use crate::expr::{Builder, Expr, Inlined, Lowering, inline};
use crate::ir::{DType, Dim, Graph, Tensor};
use crate::quant::{ChannelLayout, Grid, QuantizedTensor};

/// The stretch of the rectified sigmoid (Nagel et al. 2020, equation 23).
const STRETCH: [f32; 2] = [-0.1, 1.1];
/// How far a learning rate of 1 moves a rounding variable, before the sigmoid; biases and scales move as those of
/// [`Student`]. Rounding variables need to move farther in a few hundred steps.
const ROUNDING: f32 = 10.0;
/// Activations of this many bits or more are not dropped at random: their quantization errors are too small.
const FINE: u32 = 8;
/// The least distance of a rounding variable's start from 0 and 1, so that gradients still move it.
const EDGE: f32 = 0.01;

/// The parts trained in earlier blocks: each is trained once, in the first block that uses it.
#[derive(Clone, Debug, Default)]
pub struct SettledParts {
    grids: Vec<usize>,
    weights: Vec<usize>,
    biases: Vec<usize>,
}

/// The reconstruction of a block of a student.
#[derive(Clone, Debug)]
pub struct Reconstruction<'a> {
    student: &'a Student,
    /// The block's part of the student.
    graph: Graph,
    /// The trained weights of the block, by their index in the plan.
    weights: BTreeMap<usize, TrainedWeight>,
    /// Places in `scales`, by grid.
    grids: BTreeMap<usize, usize>,
    /// Places in `shifts`, by the bias's index in the student.
    biases: BTreeMap<usize, usize>,
    /// The rounding variable of each weight, before the sigmoid.
    rounding: TrainedVector,
    /// Logarithms of scales.
    scales: TrainedVector,
    shifts: TrainedVector,
    /// Low-bit activations, by name: some of their elements stay float at random during training.
    coarse: Vec<String>,
}

/// A weight whose rounding is trained.
#[derive(Clone, Debug)]
struct TrainedWeight {
    /// Its place among those of the block.
    rounding: usize,
    /// The place of its scale.
    scale: usize,
    /// The lower of the two candidate integers, minus the zero point.
    lower: Vec<f32>,
}

impl<'a> Reconstruction<'a> {
    /// Returns the reconstruction of `block`. Every weight starts at its float value between two neighboring integers,
    /// one of which is its current integer. The parts in `settled` stay fixed.
    ///
    /// # Errors
    /// When the block does not belong to the student.
    pub fn new(student: &'a Student, block: &Block, settled: &SettledParts) -> Result<Self> {
        let mut made = Self {
            student,
            graph: segment(&student.graph, block)?,
            weights: BTreeMap::new(),
            grids: BTreeMap::new(),
            biases: BTreeMap::new(),
            rounding: TrainedVector::default(),
            scales: TrainedVector::default(),
            shifts: TrainedVector::default(),
            coarse: Vec::new(),
        };
        let start = student.start();
        let [values, scales] = [student.weights.layout.tensors(&start[0])?, student.scales.layout.tensors(&start[1])?];
        let units = student.weights.layout.tensors(&student.weights.lr_scales())?;
        for name in tensors(&made.graph) {
            match student.roles.get(&name).copied() {
                Some(Role::Activation(grid)) => {
                    if student.grids[grid].scheme.bits < FINE {
                        made.coarse.push(name);
                    }
                    if !settled.grids.contains(&grid) && !made.grids.contains_key(&grid) {
                        let (name, start) = &scales[grid];
                        let place = made.add_scale(name, start, &student.grids[grid])?;
                        made.grids.insert(grid, place);
                    }
                }
                Some(Role::Weight(weight, _)) if !settled.weights.contains(&weight) => {
                    let quantized = &student.quantized[weight];
                    let (scale, start) = &scales[student.grids.len() + weight];
                    let scale = made.add_scale(scale, start, &quantized.grid)?;
                    let (lower, places) = between(quantized, &student.float_weight(weight)?);
                    let starts: Vec<f32> = places.into_iter().map(inverse_rectified_sigmoid).collect();
                    let units = vec![ROUNDING; starts.len()];
                    let rounding = made.rounding.add(&name, &quantized.shape, &starts, &units)?;
                    made.weights.insert(weight, TrainedWeight { rounding, scale, lower });
                }
                Some(Role::Bias(bias)) if !settled.biases.contains(&bias) => {
                    let value = &values[bias].1;
                    let units = units[bias].1.to_f32()?;
                    let place = made.shifts.add(&name, value.shape(), &value.to_f32()?, &units)?;
                    made.biases.insert(bias, place);
                }
                _ => {}
            }
        }
        Ok(made)
    }

    fn add_scale(&mut self, name: &str, start: &Tensor, grid: &Grid) -> Result<usize> {
        let start = start.to_f32()?;
        let units: Vec<f32> = (0..start.len()).map(|channel| 1.0 / grid.farthest(channel)).collect();
        self.scales.add(name, &[start.len()], &start, &units)
    }

    /// Returns the parts that are fixed in the following blocks.
    pub fn settles(&self, before: &SettledParts) -> SettledParts {
        let mut all = before.clone();
        all.grids.extend(self.grids.keys());
        all.weights.extend(self.weights.keys());
        all.biases.extend(self.biases.keys());
        all
    }

    /// Returns the number of weights whose rounding is trained here.
    pub fn layers(&self) -> usize {
        self.weights.len()
    }

    /// Returns the block's part of the student, with an Identity in place of each quantizer.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Returns the shapes of low-bit activations for a batch size.
    ///
    /// # Errors
    /// When a shape is unknown.
    pub fn masked(&self, batch: usize) -> Result<Vec<Vec<usize>>> {
        self.coarse.iter().map(|name| shape_of(&self.graph, name, batch)).collect()
    }

    /// Returns the training step for a batch size. Its feeds are the block input, `y`, `annealing` (the exponent of
    /// [`rounding_regularizer`], the weight of its mean relative to the distance, and the sharpness of the sigmoid),
    /// and a mask for each of [`Reconstruction::masked`].
    ///
    /// # Errors
    /// An operator that is not differentiable or whose shape is unknown, by node.
    pub fn step(&self, batch: usize, lowering: &Lowering) -> Result<TrainingStep> {
        let builder = Builder::new("reconstruction_step");
        let inputs = inputs_on(&builder, &self.graph, batch)?;
        let output = self.graph.outputs.iter().map(|&id| self.graph.name_of(id)).next().unwrap_or_default();
        let y = builder.input("y", DType::F32, &shape_of(&self.graph, output, batch)?);
        let annealing = builder.input("annealing", DType::F32, &[3]);
        let shapes = self.masked(batch)?.into_iter().enumerate();
        let masks: Vec<Expr> =
            shapes.map(|(i, shape)| builder.input(&format!("mask_{i}"), DType::F32, &shape)).collect();
        let vectors = [("rounding", &self.rounding), ("scales", &self.scales), ("shifts", &self.shifts)];
        let vectors = vectors.into_iter().filter(|(_, vector)| !vector.layout.is_empty());
        let vectors: Vec<(Expr, &TrainedVector)> =
            vectors.map(|(name, v)| (builder.input(name, DType::F32, &[v.layout.len()]), v)).collect();
        let [exponent, weight, sharpness] = [0, 1, 2].map(|i| annealing.slice(0, i..i + 1).reshape(&[]));
        let parts = Parts::of(&vectors, sharpness);
        let inlined = self.forward(&builder, &inputs, &parts, &masks)?;
        let distance = channel_normalized_mse(inlined.outputs[0].cast(DType::F32), y);
        let open =
            parts.shares.iter().map(|&share| rounding_regularizer(share, exponent)).reduce(|sum, next| sum + next);
        let open = open.map(|open| open * (1.0 / small(self.rounding.layout.len())));
        let terms: Vec<(&'static str, Expr)> = open.into_iter().map(|open| ("unsettled", open)).collect();
        let loss = open.map_or(distance, |open| distance + weight * distance.stop_gradient() * open);
        let player = Player { loss, vectors: &vectors, optimiser: Optimiser::ADAM };
        training_step(&StepParts::of(&[player], distance, &terms), lowering)
    }

    fn forward<'b>(
        &self,
        builder: &'b Builder,
        inputs: &[Expr<'b>],
        parts: &Parts<'b>,
        masks: &[Expr<'b>],
    ) -> Result<Inlined<'b>> {
        let student = self.student;
        let constant =
            |name: &str, values: &[f32], shape: &[usize]| builder.constant(name, Tensor::from_f32(shape, values));
        inline(builder, &self.graph, inputs, &mut |name, x| match student.roles.get(name).copied() {
            None => x,
            Some(Role::Activation(grid)) => {
                let scale = match self.grids.get(&grid) {
                    Some(&place) => parts.scales[place],
                    None => constant(name, &student.grids[grid].scale, &[student.grids[grid].scale.len()]),
                };
                let made = fake_quantize(x, scale, &student.grids[grid]);
                let mask = self.coarse.iter().position(|other| other == name).and_then(|i| masks.get(i));
                mask.map_or(made, |&mask| x + mask * (made - x))
            }
            Some(Role::Weight(weight, _)) => {
                let quantized = &student.quantized[weight];
                let Some(trained) = self.weights.get(&weight) else {
                    return constant(name, &quantized.dequantize(), &quantized.shape);
                };
                let lower = constant(name, &trained.lower, &quantized.shape);
                // `lower` and the integer above it lie on the grid of their channel, so no clipping is needed.
                (lower + parts.shares[trained.rounding]) * along(parts.scales[trained.scale], quantized)
            }
            Some(Role::Bias(bias)) => self.biases.get(&bias).map_or(x, |&place| parts.shifts[place]),
        })
    }

    /// Writes the trained state of a step into `trained`.
    ///
    /// # Errors
    /// [`Error::Diverged`] naming a scale that is not a positive number.
    pub fn read_out(&self, state: &[(String, Tensor)], trained: &mut TrainedParameters) -> Result<()> {
        let vector = |name: &str, vector: &TrainedVector| -> Result<Vec<(String, Tensor)>> {
            if vector.layout.is_empty() {
                return Ok(Vec::new());
            }
            vector.layout.tensors(&entry(state, name)?)
        };
        let scales = vector("scales", &self.scales)?;
        let scale = |place: usize| -> Result<Vec<f32>> {
            let (name, logarithms) = &scales[place];
            positive(name, logarithms.to_f32()?.into_iter().map(libm::expf).collect())
        };
        for (&grid, &place) in &self.grids {
            trained.activations[grid].scale = scale(place)?;
        }
        let rounding = vector("rounding", &self.rounding)?;
        for (&weight, TrainedWeight { rounding: place, scale: scales, lower }) in &self.weights {
            let shares = rounding[*place].1.to_f32()?.into_iter().map(rectified_sigmoid);
            trained.weights[weight] = rounded(&self.student.quantized[weight], scale(*scales)?, lower, shares);
        }
        trained.biases.extend(self.student.biases_of(&vector("shifts", &self.shifts)?)?);
        Ok(())
    }
}

/// The trained parts of a block, as expressions.
struct Parts<'b> {
    /// The rounding of each weight, from 0 (down) to 1 (up).
    shares: Vec<Expr<'b>>,
    scales: Vec<Expr<'b>>,
    shifts: Vec<Expr<'b>>,
}

impl<'b> Parts<'b> {
    fn of(vectors: &[(Expr<'b>, &TrainedVector)], sharpness: Expr<'b>) -> Self {
        let split = |name: &str, of: &dyn Fn(Expr<'b>) -> Expr<'b>| {
            let found = vectors.iter().find(|(vector, _)| vector.name() == name);
            found.map_or(Vec::new(), |(vector, trained)| trained.layout.split(of(*vector)))
        };
        let [lo, hi] = STRETCH;
        Self {
            shares: split("rounding", &|v| ((v * sharpness).sigmoid() * (hi - lo) + lo).clip(0.0, 1.0)),
            scales: split("scales", &|v| v.exp()),
            shifts: split("shifts", &|v| v),
        }
    }
}

/// Returns the rectified sigmoid of `v` (Louizos et al. 2018; Nagel et al. 2020, AdaRound, equation 23).
fn rectified_sigmoid(v: f32) -> f32 {
    let [lo, hi] = STRETCH;
    ((hi - lo) / (1.0 + libm::expf(-v)) + lo).clamp(0.0, 1.0)
}

/// Returns the inverse of [`rectified_sigmoid`].
fn inverse_rectified_sigmoid(share: f32) -> f32 {
    let [lo, hi] = STRETCH;
    -libm::logf((hi - lo) / (share - lo) - 1.0)
}

/// Returns for each weight the lower of two neighboring integers (minus its zero point) and the start of its rounding
/// variable between them, 0 to 1. One of the two is its current integer.
fn between(quantized: &QuantizedTensor, floats: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let layout = ChannelLayout::along(&quantized.shape, quantized.grid.scheme.axis);
    let one = |(i, &w): (usize, &f32)| {
        let channel = layout.channel(i);
        let own = (quantized.integer(i) - quantized.grid.zero_point[channel]) as f32;
        let (lo, hi) = quantized.grid.levels(channel);
        let exact = (w / quantized.grid.scale[channel]).clamp(own - 1.0, own + 1.0);
        let lower = (if exact < own { own - 1.0 } else { own }).clamp(lo, (hi - 1.0).max(lo));
        (lower, (exact - lower).clamp(EDGE, 1.0 - EDGE))
    };
    floats.iter().enumerate().map(one).unzip()
}

fn rounded(
    before: &QuantizedTensor,
    scale: Vec<f32>,
    lower: &[f32],
    shares: impl Iterator<Item = f32>,
) -> QuantizedTensor {
    let grid = Grid { scale, ..before.grid.clone() };
    let layout = ChannelLayout::along(&before.shape, grid.scheme.axis);
    let (q_min, q_max) = grid.scheme.int_range();
    let byte = |((i, lower), share): ((usize, &f32), f32)| {
        let level = (lower + share.round()) as i32 + grid.zero_point[layout.channel(i)];
        level.clamp(q_min, q_max).to_le_bytes()[0]
    };
    let bytes: Vec<u8> = lower.iter().enumerate().zip(shares).map(byte).collect();
    QuantizedTensor { shape: before.shape.clone(), bytes: bytes.into(), grid }
}

/// Returns the scale of a weight in a shape that broadcasts over it.
fn along<'b>(scales: Expr<'b>, quantized: &QuantizedTensor) -> Expr<'b> {
    let mut shape = vec![1; quantized.shape.len()];
    if let Some(axis) = quantized.grid.scheme.axis {
        shape[axis] = scales.len();
    }
    scales.reshape(&shape)
}

/// Returns the names of all tensors of a graph, in the order of its nodes.
fn tensors(graph: &Graph) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let mut seen = HashSet::new();
    for id in graph.nodes.iter().flat_map(|node| node.inputs.iter().chain(&node.outputs)).flatten() {
        if seen.insert(*id) {
            names.push(graph.name_of(*id).to_owned());
        }
    }
    names
}

fn shape_of(graph: &Graph, name: &str, batch: usize) -> Result<Vec<usize>> {
    let dims = graph.find(name).and_then(|id| graph.value(id).shape.clone()).unwrap_or_default();
    let rest: Option<Vec<usize>> = dims.iter().skip(1).map(Dim::known).collect();
    match rest {
        Some(rest) if !dims.is_empty() => Ok([vec![batch], rest].concat()),
        _ => {
            let message = "its dimensions are not known; fix them with --input-shape";
            Err(Error::unsupported(format!("tensor \"{name}\""), message))
        }
    }
}
