//! `fast`: the best without training. Every weight is rounded so that the layer's results change least over synthetic
//! inputs, which run through the float network with the statistics that it was trained with; biases take back what
//! quantization of weights and inputs shifts. Weights with one scale for all channels are equalised before.

use std::collections::HashMap;

use super::seen::Seen;
use super::squant::flipped;
use super::weights::{Weights, channel_axis, fit_biases, nearest_weights, node_of, tensor_of};
use super::{Recipe, Solution, Teacher, narrow};
use crate::calibrate::calibrate;
use crate::error::Result;
use crate::ir::{Graph, ValueId};
use crate::layers::{Rows, Scope, Step, absorb, equalise, subtract_from_bias};
use crate::plan::Plan;
use crate::quant::{Compensated, Grid, QuantizedTensor, RowGrid, compensate, scale_terms};
use crate::sample::sample;
use crate::stats::propagate;

/// How often a scale is fitted to its integers and the integers to the scale.
const FITS: usize = 2;

pub(super) const RECIPE: Recipe = Recipe {
    name: "fast",
    summary: "rounds against the covariance of each layer's synthetic inputs and corrects biases",
    citation: "rounding after Frantar et al. 2022 (GPTQ), equalisation and bias correction after Nagel et al. 2019 (DFQ)",
    run: fast,
};

fn fast(student: &mut Graph, plan: &Plan, teacher: &Teacher) -> Result<Solution> {
    let mut norms = teacher.norms.to_vec();
    let mut steps = Vec::new();
    if plan.weights.iter().any(|w| w.scheme.axis.is_none()) {
        let moments = propagate(student, &norms, &teacher.input.moments());
        steps.extend(equalise(student, plan, &mut norms, (Scope::SharedScales, &moments))?);
        steps.extend(absorb(student, plan, &mut norms)?);
    }
    let teacher = Teacher { norms: &norms, ..*teacher };
    let (activations, sources) = calibrate(student, plan, &teacher)?;
    let Weights { mut tensors, enlarged } = nearest_weights(student, plan, &activations)?;
    let inputs: Vec<ValueId> = layers(student, plan).filter_map(|(_, node, _)| student.nodes[node].input(0)).collect();
    let sampled = sample(student, &inputs, &teacher)?;
    let mut corrections = HashMap::new();
    let mut rounded = vec![false; tensors.len()];
    let found: Vec<(usize, usize, usize)> = layers(student, plan).collect();
    for (layer, node, weight) in found {
        let (name, grid) = (&plan.layers[layer].name, &activations[plan.layers[layer].input]);
        let rows = Rows::read(student, &student.nodes[node])?;
        let input = student.nodes[node].input(0).and_then(|id| sampled.get(&id));
        let (rows, input) = match (rows, input) {
            (Some(rows), Some(input)) => (rows, input),
            (rows, _) => {
                let why = if rows.is_none() { "its weight is of an unknown form" } else { "its input is not finite" };
                steps.push(Step::new("rounding", name.clone(), Some(why.to_owned())));
                continue;
            }
        };
        let seen = Seen::of(&student.nodes[node], &rows, input, grid);
        if !std::mem::replace(&mut rounded[weight], true) {
            tensors[weight] = match &seen {
                Some(seen) => {
                    let fitted = Fitted::of(&rows, &tensors[weight], seen);
                    let fitting = fit_biases(student, plan, weight, &activations, &fitted.grid.scale)?;
                    fitted.within(&rows, &tensors[weight], &fitting)
                }
                None => flipped(&rows, &tensors[weight]),
            };
            let refused = seen.is_none().then(|| "its input patches are not known, roundings are flipped".to_owned());
            steps.push(Step::new("rounding", name.clone(), refused));
        }
        let shift = match &seen {
            Some(seen) => shift(&rows, &tensors[weight], seen),
            None => mean_shift(&rows, &tensors[weight], &input.means(channel_axis(student, node))),
        };
        let corrected = subtract_from_bias(student, node, &shift)?;
        if corrected {
            corrections.insert(plan.layers[layer].output.clone(), narrow(&shift));
        }
        let refused = (!corrected).then(|| "it has no bias, or one of an unknown form".to_owned());
        steps.push(Step::new("bias", name.clone(), refused));
    }
    steps.sort_by_key(|s| s.step == "bias");
    Ok(Solution { activations, sources, weights: tensors, enlarged, corrections, steps })
}

/// Index of the layer, of its node, and of its weight, for every layer with a weight.
fn layers(student: &Graph, plan: &Plan) -> impl Iterator<Item = (usize, usize, usize)> {
    let layers = plan.layers.iter().enumerate();
    layers.filter_map(|(i, l)| Some((i, node_of(student, &l.output)?, l.weight?)))
}

/// A weight whose scales and integers fit each other.
struct Fitted {
    grid: Grid,
    /// In the order of the rows.
    integers: Vec<i32>,
}

impl Fitted {
    fn of(rows: &Rows, nearest: &QuantizedTensor, seen: &[Seen]) -> Self {
        let mut grid = nearest.grid.clone();
        let mut integers = integers_of(rows, nearest);
        let own_scales = grid.scale.len() > 1;
        let width = rows.width();
        for (o, (row, integers)) in rows.values.chunks(width).zip(integers.chunks_mut(width)).enumerate() {
            let channel = if own_scales { o } else { 0 };
            let zero_point = grid.zero_point[channel];
            let (lo, hi) = grid.scheme.int_range();
            #[allow(clippy::cast_precision_loss)]
            let start =
                RowGrid { scale: grid.scale[channel], range: ((lo - zero_point) as f32, (hi - zero_point) as f32) };
            let fitted = fit_row(row, start, &seen[rows.group_of(o)], if own_scales { FITS } else { 0 });
            grid.scale[channel] = fitted.scale;
            for (block, rounded) in fitted.blocks {
                #[allow(clippy::cast_possible_truncation)]
                integers[block].iter_mut().zip(&rounded.integers).for_each(|(i, &q)| *i = q as i32 + zero_point);
            }
        }
        Self { grid, integers }
    }

    /// Returns the weight with the rows of `nearest` where `fitting`, the scales that biases need, are others.
    fn within(mut self, rows: &Rows, nearest: &QuantizedTensor, fitting: &[f32]) -> QuantizedTensor {
        let old = integers_of(rows, nearest);
        for (channel, scale) in fitting.iter().enumerate() {
            if *scale == self.grid.scale[channel] {
                continue;
            }
            let range =
                if fitting.len() == 1 { 0..old.len() } else { channel * rows.width()..(channel + 1) * rows.width() };
            self.integers[range.clone()].copy_from_slice(&old[range]);
            self.grid.scale[channel] = nearest.grid.scale[channel].max(*scale);
        }
        tensor_of(rows, self.grid, &self.integers)
    }
}

fn integers_of(rows: &Rows, tensor: &QuantizedTensor) -> Vec<i32> {
    rows.gather(&(0..rows.values.len()).map(|i| tensor.integer(i)).collect::<Vec<i32>>())
}

/// A row's scale, and its blocks that vary.
struct FittedRow {
    scale: f32,
    blocks: Vec<(std::ops::Range<usize>, Compensated)>,
}

/// Rounds a row, then fits its scale to the integers and rounds again, `fits` times or as long as that helps.
fn fit_row(row: &[f32], start: RowGrid, seen: &Seen, fits: usize) -> FittedRow {
    let metrics = || seen.blocks.iter().filter_map(|(range, metric)| Some((range.clone(), metric.as_ref()?)));
    let round = |scale: f32| -> (f64, FittedRow) {
        let block = |(range, metric): (std::ops::Range<usize>, _)| {
            (range.clone(), compensate(&row[range], RowGrid { scale, ..start }, metric))
        };
        let blocks: Vec<_> = metrics().map(block).collect();
        (blocks.iter().map(|b| b.1.loss()).sum(), FittedRow { scale, blocks })
    };
    let mut best = round(start.scale);
    let images: Vec<Vec<f32>> = match fits {
        0 => Vec::new(),
        _ => metrics().map(|(range, metric)| metric.times(&row[range])).collect(),
    };
    for _ in 0..fits {
        let terms = best
            .1
            .blocks
            .iter()
            .zip(&images)
            .map(|((range, rounded), image)| scale_terms(&row[range.clone()], image, best.1.scale, rounded));
        let (wq, qq) = terms.fold((0.0, 0.0), |sum, term| (sum.0 + term.0, sum.1 + term.1));
        #[allow(clippy::cast_possible_truncation)]
        let scale = (wq / qq) as f32;
        if !scale.is_normal() || scale <= 0.0 {
            break;
        }
        let next = round(scale);
        if next.0 >= best.0 {
            break;
        }
        best = next;
    }
    best.1
}

/// Returns how far the mean of each output moves: `Ŵ E[Q(x)] - W E[x]`.
fn shift(rows: &Rows, tensor: &QuantizedTensor, seen: &[Seen]) -> Vec<f64> {
    let quantized = rows.gather(&tensor.dequantize());
    let width = rows.width();
    let dot = |w: &[f32], m: &[f32]| w.iter().zip(m).map(|(&w, &m)| f64::from(w) * f64::from(m)).sum::<f64>();
    let pairs = quantized.chunks(width).zip(rows.values.chunks(width)).enumerate();
    pairs
        .map(|(o, (quantized, float))| {
            let (before, behind) = &seen[rows.group_of(o)].means;
            dot(quantized, behind) - dot(float, before)
        })
        .collect()
}

/// Returns the same where only channel means are known: `(Ŵ - W) E[x]`, or nothing where they do not fit.
fn mean_shift(rows: &Rows, tensor: &QuantizedTensor, means: &[f64]) -> Vec<f64> {
    if means.len() != 1 && means.len() != rows.input_channels() {
        return vec![0.0; rows.outputs];
    }
    let quantized = rows.gather(&tensor.dequantize());
    let error: Vec<f32> = quantized.iter().zip(&rows.values).map(|(q, w)| q - w).collect();
    rows.times(&error, means)
}
