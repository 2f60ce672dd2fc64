//! Sequential refit: layer by layer, in the order of the network, refits each low-bit weight and every bias so that the
//! layer's output comes close to the float layer's on the inputs that the quantized layers before it produce.
//!
//! Rounding a layer by its float inputs leaves the errors of the layers before it as they are, and they add up. Most of
//! them depend linearly on the layer's own input, so a least-squares refit of the weight removes them before the weight
//! is rounded (asymmetric reconstruction; Nagel et al. 2020, AdaRound, equation 25; in closed form Li et al. 2025,
//! GPTAQ). The inputs are those of calibration, with batch statistics brought to the trained ones. On mobilenetv1_025_224
//! at w4a8 this brings the divergence from the float network from 0.28 to 0.19 nats (`benches/README.md`).

mod refit;
mod segments;
mod streams;

use refit::LayerInputs;
use segments::{Segment, segments};
use streams::{Streams, Tap};

use super::judge::Judge;
use super::probes::probes;
use super::rounding::Fitted;
use super::shift::{correct_bias, shift};
use super::weights::{BiasFit, node_of};
use crate::calibrate::{CalibrationContext, Means};
use crate::error::Result;
use crate::ir::Graph;
use crate::layers::{LayerStep, Rows};
use crate::plan::Plan;
use crate::quant::{ChannelLayout, QuantizedTensor, round_to_nearest, weight_grid};
use crate::sensitivity::{Part, partly_quantized};
use crate::solution::Solved;

/// Weights of so many bits keep their integers: there is too little to gain for the risk.
const FINE: u32 = 8;
/// The name of the step in reports.
const STEP: &str = "refit";
/// The gain on probes, in dB, that a refit is kept for: a few samples resolve no smaller differences.
const LEAST_GAIN: f64 = 0.25;
const HARMS: &str = "it does not help on inputs that it did not go by";
/// The most layers: each costs a copy of the graph.
const LAYERS: usize = 512;

/// Returns `start` with its layers refitted in turn, or unchanged but for a note in its steps where that gains nothing
/// on probes or cannot be done. A solution stays as it is where all weights have 8 bits, and where activations have fewer:
/// their errors are no linear function of the inputs, and refits measured worse than none.
///
/// # Errors
/// When the engine cannot run the network on probes.
pub fn sequential(start: Solved, context: &CalibrationContext) -> Result<Solved> {
    let segments = segments(&start.float, &start.plan);
    let layers: Vec<usize> = segments.iter().flat_map(|segment| segment.levels.concat()).collect();
    let has_low_weights = start.plan.weights.iter().any(|weight| weight.scheme.bits < FINE);
    let has_low_inputs = start.plan.activations.iter().any(|activation| activation.scheme.bits < FINE);
    if !has_low_weights || has_low_inputs || layers.is_empty() || layers.len() > LAYERS {
        return Ok(start);
    }
    let context = CalibrationContext { norms: &start.norms, ..*context };
    let (mut kept, refused) = match refitted(&start, &segments, &context) {
        Err(error) => (start, Some(error.to_string())),
        Ok(None) => return Ok(start),
        Ok(Some(found)) => {
            let probes = probes(&start.float, &context)?;
            let judge = Judge::new(&start.float, &probes, &context)?;
            match judge.gain(&judge.ratios(&found)?, &judge.ratios(&start)?) > LEAST_GAIN {
                true => (found, None),
                false => (start, Some(HARMS.to_owned())),
            }
        }
    };
    let step = |layer: usize| LayerStep::new(STEP, kept.plan.layers[layer].name.clone(), refused.clone());
    let steps: Vec<LayerStep> = layers.into_iter().map(step).collect();
    kept.solution.steps.extend(steps);
    Ok(kept)
}

/// Returns `start` with its layers refitted; `None` where its inputs have no common axis of samples.
fn refitted(start: &Solved, segments: &[Segment], context: &CalibrationContext) -> Result<Option<Solved>> {
    let Some(mut streams) = Streams::new(&start.float, segments, context)? else { return Ok(None) };
    let mut found = start.clone();
    for segment in segments {
        for level in &segment.levels {
            refit_level(level, segment, &streams, &mut found, context.threads)?;
        }
        if let Some(end) = &segment.end {
            let quantized = partly_quantized(&found, &part_of(segment, &found.plan))?;
            streams.advance(end, &found.float, &quantized)?;
        }
    }
    Ok(Some(found))
}

/// Returns the part of the plan that the segment needs: its own weights, and all activations.
fn part_of(segment: &Segment, plan: &Plan) -> Part {
    let mut part = Part::of(plan, true);
    part.weights.fill(false);
    part.weights_alone.fill(false);
    segment.levels.iter().flatten().for_each(|&layer| part.weights[layer] = true);
    part
}

/// A layer to refit.
struct Layer {
    /// Its weight in the plan.
    weight: usize,
    /// Its node in the float network.
    node: usize,
    rows: Rows,
    tap: Tap,
}

impl Layer {
    /// Returns the layer at `place` of the plan, if its weight has a supported form.
    fn of(place: usize, found: &Solved, quantized: &Graph) -> Result<Option<Self>> {
        let planned = &found.plan.layers[place];
        let Some((weight, node)) = planned.weight.zip(node_of(&found.float, &planned.output)) else { return Ok(None) };
        let input = |graph: &Graph| graph.nodes[node_of(graph, &planned.output)?].input(0);
        let Some((float, quantized)) = input(&found.float).zip(input(quantized)) else { return Ok(None) };
        let rows = Rows::read(&found.float, &found.float.nodes[node])?;
        Ok(rows.map(|rows| Self { weight, node, rows, tap: Tap { float, quantized } }))
    }

    /// Refits the layer to its inputs in the float network and in the quantized one.
    fn refit(&self, inputs: LayerInputs, found: &mut Solved, threads: usize) -> Result<()> {
        let Self { weight, node, rows, .. } = self;
        let is_fine = found.plan.weights[*weight].scheme.bits >= FINE;
        let means = if is_fine { inputs.means(rows) } else { self.refit_weight(inputs, found, threads)? };
        let means: Vec<&Means> = means.iter().collect();
        let shift = shift(rows, &found.solution.weights[*weight], &means, |means| &means.before);
        correct_bias(&found.float, *node, &shift, &mut found.solution.biases)?;
        Ok(())
    }

    /// Refits and rounds the weight; returns the means of its inputs.
    fn refit_weight(&self, inputs: LayerInputs, found: &mut Solved, threads: usize) -> Result<Vec<Means>> {
        let (refitted, seen) = inputs.refit(&self.rows, threads);
        let scheme = found.plan.weights[self.weight].scheme;
        let values = refitted.scatter(&refitted.values);
        let layout = ChannelLayout::along(refitted.shape(), scheme.axis);
        let activations = &found.solution.activations;
        let fit = BiasFit { float: &found.float, plan: &found.plan, activations, biases: None };
        let (grid, _) = fit.fitted(self.weight, &weight_grid(scheme, &values, layout, threads))?;
        let nearest = round_to_nearest(grid, refitted.shape(), &values);
        let fitted = Fitted::of(&refitted, &nearest, &seen, threads);
        let (fitting, _) = fit.fitted(self.weight, &fitted.grid)?;
        let rounded: QuantizedTensor = fitted.within(&refitted, &nearest, &fitting.scale);
        found.solution.weights[self.weight] = rounded;
        Ok(seen.into_iter().map(|seen| seen.means).collect())
    }
}

/// Refits the layers at the places `level` of the plan, none of whose inputs depends on another's output.
fn refit_level(
    level: &[usize],
    segment: &Segment,
    streams: &Streams,
    found: &mut Solved,
    threads: usize,
) -> Result<()> {
    let quantized = partly_quantized(found, &part_of(segment, &found.plan))?;
    let layers = level.iter().map(|&place| Layer::of(place, found, &quantized)).collect::<Result<Vec<_>>>()?;
    let layers: Vec<Layer> = layers.into_iter().flatten().collect();
    let taps: Vec<Tap> = layers.iter().map(|layer| layer.tap).collect();
    let mut inputs: Vec<Option<LayerInputs>> =
        layers.iter().map(|layer| Some(LayerInputs::new(&layer.rows, streams.chunks()))).collect();
    streams.run(&found.float, &quantized, &taps, &mut |chunk| {
        for ((layer, inputs), tensors) in layers.iter().zip(&mut inputs).zip(chunk) {
            let node = &found.float.nodes[layer.node];
            *inputs = inputs.take().map_or(Ok(None), |inputs| inputs.with(node, &layer.rows, tensors))?;
        }
        Ok(())
    })?;
    let with_inputs = layers.iter().zip(inputs).filter_map(|(layer, inputs)| Some((layer, inputs?)));
    for (layer, inputs) in with_inputs {
        layer.refit(inputs, found, threads)?;
    }
    Ok(())
}
