//! `fast`: the best without training. Every weight is rounded so that the layer's results change least over synthetic
//! inputs, which run through the float network with the statistics that it was trained with; biases take back what
//! quantization of weights and inputs shifts. Weights with one scale for all channels are equalised before.

use std::collections::HashMap;

use super::seen::Seen;
use super::squant::flipped;
use super::weights::{Weights, channel_axis, fit_biases, nearest_weights, node_of, tensor_of};
use super::{Corrections, Effort, Recipe, Solution, Teacher, narrow};
use crate::calibrate::calibrate;
use crate::error::Result;
use crate::ir::{Graph, ValueId};
use crate::layers::{Rows, Scope, Step, absorb, equalise, subtract_from_bias};
use crate::onnx;
use crate::parallel;
use crate::plan::Plan;
use crate::quant::{Compensated, Grid, QuantizedTensor, RowGrid, compensate, scale_terms};
use crate::sample::{Sample, sample};
use crate::stats::propagate;

/// How often a scale is fitted to its integers and the integers to the scale.
const FITS: usize = 2;

pub(super) const RECIPE: Recipe = Recipe {
    name: "fast",
    summary: "rounds against the covariance of each layer's synthetic inputs and corrects biases",
    citation: "rounding after Frantar et al. 2022 (GPTQ), equalisation and bias correction after Nagel et al. 2019 (DFQ)",
    run: fast,
    stages: &[],
    effort: Effort::NONE,
    wants_images: false,
};

pub(super) fn fast(student: &mut Graph, plan: &Plan, teacher: &Teacher) -> Result<Solution> {
    let mut norms = teacher.norms.to_vec();
    let mut steps = Vec::new();
    if plan.weights.iter().any(|w| w.scheme.axis.is_none()) {
        let moments = propagate(student, &norms, &teacher.input.moments());
        steps.extend(equalise(student, plan, &mut norms, (Scope::SharedScales, &moments))?);
        steps.extend(absorb(student, plan, &mut norms)?);
    }
    let teacher = Teacher { norms: &norms, ..*teacher };
    let (activations, sources) = calibrate(student, plan, &teacher)?;
    let Weights { tensors, enlarged } = nearest_weights(student, plan, &activations, teacher.threads)?;
    let found: Vec<Found> = layers(student, plan).collect();
    let inputs: Vec<ValueId> = found.iter().filter_map(|found| student.nodes[found.node].input(0)).collect();
    let sampled = sample(student, &inputs, &teacher)?;
    let seen = Evidence { student, plan, activations: &activations, sampled: &sampled };
    let readers = |weight| found.iter().copied().filter(|found| found.weight == weight).collect::<Vec<_>>();
    let weights = tensors.into_iter().enumerate().map(|(weight, nearest)| (readers(weight), nearest));
    let size = |(_, nearest): &(Vec<Found>, QuantizedTensor)| nearest.bytes.len();
    let made = parallel::map_by_size(teacher.threads, weights, size, |(readers, nearest), threads| {
        let made = seen.round(&readers, nearest, threads);
        onnx::release_pages();
        made
    });
    let (mut weights, mut outcomes) = (Vec::new(), Vec::new());
    for made in made {
        let (tensor, of_layers) = made?;
        weights.push(tensor);
        outcomes.extend(of_layers);
    }
    outcomes.sort_by_key(|outcome| outcome.found.layer);
    let (corrections, told) = correct(student, plan, outcomes)?;
    steps.extend(told);
    Ok(Solution { activations, sources, weights, enlarged, corrections, steps })
}

/// A layer with a weight: its index, that of its node, and that of its weight.
#[derive(Clone, Copy)]
struct Found {
    layer: usize,
    node: usize,
    weight: usize,
}

fn layers(student: &Graph, plan: &Plan) -> impl Iterator<Item = Found> {
    let layers = plan.layers.iter().enumerate();
    layers.filter_map(|(layer, l)| Some(Found { layer, node: node_of(student, &l.output)?, weight: l.weight? }))
}

/// What became of a layer.
struct Outcome {
    found: Found,
    /// For the layer that its weight was rounded for: why not as it should be, if so.
    rounding: Option<Option<&'static str>>,
    /// How far the mean of each output moved; none where that is not known.
    shift: Option<Vec<f64>>,
}

/// What rounding goes by.
struct Evidence<'a> {
    student: &'a Graph,
    plan: &'a Plan,
    activations: &'a [Grid],
    sampled: &'a HashMap<ValueId, Sample>,
}

impl Evidence<'_> {
    /// Rounds one weight for the first of its `readers` that is understood.
    fn round(
        &self,
        readers: &[Found],
        nearest: QuantizedTensor,
        threads: usize,
    ) -> Result<(QuantizedTensor, Vec<Outcome>)> {
        let Self { student, plan, activations, sampled } = *self;
        let mut rounded = None;
        let mut outcomes = Vec::with_capacity(readers.len());
        for &found in readers {
            let node = &student.nodes[found.node];
            let grid = &activations[plan.layers[found.layer].input];
            let rows = Rows::read(student, node)?;
            let input = node.input(0).and_then(|id| sampled.get(&id));
            let (rows, input) = match (rows, input) {
                (Some(rows), Some(input)) => (rows, input),
                (rows, _) => {
                    let why =
                        if rows.is_none() { "its weight is of an unknown form" } else { "its input is not finite" };
                    outcomes.push(Outcome { found, rounding: Some(Some(why)), shift: None });
                    continue;
                }
            };
            let seen = Seen::of(node, &rows, (input, grid), threads);
            let first = rounded.is_none();
            let tensor = match (&rounded, &seen) {
                (Some(tensor), _) => tensor,
                (None, Some(seen)) => {
                    let fitted = Fitted::of(&rows, &nearest, seen, threads);
                    let fitting = fit_biases(student, plan, found.weight, activations, &fitted.grid.scale)?;
                    rounded.insert(fitted.within(&rows, &nearest, &fitting))
                }
                (None, None) => rounded.insert(flipped(&rows, &nearest)),
            };
            let shift = match &seen {
                Some(seen) => shift(&rows, tensor, seen),
                None => mean_shift(&rows, tensor, &input.means(channel_axis(student, found.node))),
            };
            let refused = seen.is_none().then_some("its input patches are not known, roundings are flipped");
            outcomes.push(Outcome { found, rounding: first.then_some(refused), shift: Some(shift) });
        }
        Ok((rounded.unwrap_or(nearest), outcomes))
    }
}

/// Lets biases take back what moved; returns how much, and what is to be told of each layer: roundings, then biases.
fn correct(student: &mut Graph, plan: &Plan, outcomes: Vec<Outcome>) -> Result<(Corrections, Vec<Step>)> {
    let mut corrections = HashMap::new();
    let (mut roundings, mut biases) = (Vec::new(), Vec::new());
    for Outcome { found, rounding, shift } in outcomes {
        let layer = &plan.layers[found.layer];
        if let Some(refused) = rounding {
            roundings.push(Step::new("rounding", layer.name.clone(), refused.map(str::to_owned)));
        }
        let Some(shift) = shift else { continue };
        let corrected = subtract_from_bias(student, found.node, &shift)?;
        if corrected {
            corrections.insert(layer.output.clone(), narrow(&shift));
        }
        let refused = (!corrected).then(|| "it has no bias, or one of an unknown form".to_owned());
        biases.push(Step::new("bias", layer.name.clone(), refused));
    }
    roundings.append(&mut biases);
    Ok((corrections, roundings))
}

/// Rows of a weight that are rounded at a time.
const ROWS: usize = 16;

/// A weight whose scales and integers fit each other.
struct Fitted {
    grid: Grid,
    /// In the order of the rows, one byte each.
    integers: Vec<u8>,
}

impl Fitted {
    fn of(rows: &Rows, nearest: &QuantizedTensor, seen: &[Seen], threads: usize) -> Self {
        let mut grid = nearest.grid.clone();
        let mut integers = rows.gather(&nearest.bytes);
        let own_scales = grid.scale.len() > 1;
        let width = rows.width();
        let (lo, hi) = grid.scheme.int_range();
        let one = |o: usize, row: &[f32], integers: &mut [u8]| -> f32 {
            let channel = if own_scales { o } else { 0 };
            let zero_point = grid.zero_point[channel];
            #[allow(clippy::cast_precision_loss)]
            let start =
                RowGrid { scale: grid.scale[channel], range: ((lo - zero_point) as f32, (hi - zero_point) as f32) };
            let fitted = fit_row(row, start, &seen[rows.group_of(o)], if own_scales { FITS } else { 0 });
            for (block, rounded) in fitted.blocks {
                let pairs = integers[block].iter_mut().zip(&rounded.integers);
                #[allow(clippy::cast_possible_truncation)]
                pairs.for_each(|(i, &q)| *i = (q as i32 + zero_point).to_le_bytes()[0]);
            }
            fitted.scale
        };
        let stretches = rows.values.chunks(ROWS * width).zip(integers.chunks_mut(ROWS * width)).enumerate();
        let scales = parallel::map(threads, stretches, |(i, (values, integers))| -> Vec<f32> {
            let pairs = values.chunks(width).zip(integers.chunks_mut(width)).enumerate();
            pairs.map(|(k, (row, integers))| one(i * ROWS + k, row, integers)).collect()
        });
        if own_scales {
            grid.scale = scales.concat();
        }
        Self { grid, integers }
    }

    /// Returns the weight with the rows of `nearest` where `fitting`, the scales that biases need, are others.
    fn within(mut self, rows: &Rows, nearest: &QuantizedTensor, fitting: &[f32]) -> QuantizedTensor {
        let old = rows.gather(&nearest.bytes);
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
    let width = rows.width();
    let value = |&byte: &u8, channel: usize| {
        let q = if tensor.grid.scheme.signed { i32::from(byte.cast_signed()) } else { i32::from(byte) };
        tensor.grid.dequantize(q, channel)
    };
    let dot = |w: &[f32], m: &[f32]| w.iter().zip(m).map(|(&w, &m)| f64::from(w) * f64::from(m)).sum::<f64>();
    let integers = rows.gather(&tensor.bytes);
    let pairs = integers.chunks(width).zip(rows.values.chunks(width)).enumerate();
    pairs
        .map(|(o, (integers, float))| {
            let channel = if tensor.grid.scale.len() > 1 { o } else { 0 };
            let quantized: Vec<f32> = integers.iter().map(|byte| value(byte, channel)).collect();
            let (before, behind) = &seen[rows.group_of(o)].means;
            dot(&quantized, behind) - dot(float, before)
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
