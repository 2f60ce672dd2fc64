//! The analytic steps of `fast`: ranges, rounding and bias correction, layer by layer.

use std::collections::HashMap;

use super::Candidate;
use super::probes::{Probe, some};
use super::rounding::Fitted;
use super::shift::{correct_bias, mean_shift, shift};
use super::squant::flipped;
use super::trial::{Trial, Use};
use super::weights::{BiasFit, Weights, channel_axis, nearest_weights, node_of};
use crate::calibrate::{CalibrationContext, Means, Sample, Seen, calibrate, sample, samples_within, tap};
use crate::error::Result;
use crate::ir::{Graph, ValueId};
use crate::layers::{LayerStep, Rows};
use crate::onnx;
use crate::parallel;
use crate::plan::Plan;
use crate::quant::{Grid, QuantizedTensor};
use crate::solution::{Biases, Solution, Solved};

/// Why a rounding was rejected, or a bias not corrected.
const ROUNDING_HARMS: &str = "it increases the error on held-out inputs; rounded to nearest";
const CORRECTION_HARMS: &str = "it increases the error on held-out inputs";
/// Why a bias correction is partial.
const WITHIN: &str = "without saturated values: inputs exceed their range";

/// The most probe samples per layer.
const LARGEST: usize = 64;

/// The result of the analytic steps.
#[derive(Clone)]
pub(super) struct Analytic {
    pub solved: Solved,
    /// The weights rounded to nearest.
    nearest: Weights,
}

/// Returns the result of all steps on `start`.
///
/// # Errors
/// When the engine cannot run the float network.
pub(super) fn analytic(
    start: &Candidate,
    plan: &Plan,
    context: &CalibrationContext,
    probes: &[Probe],
) -> Result<Analytic> {
    let (float, context) = (&start.graph, start.context(context));
    let (activations, sources) = calibrate(float, plan, &context)?;
    let nearest = nearest_weights(float, plan, &activations, context.threads)?;
    let found: Vec<Found> = layers(float, plan).collect();
    let inputs: Vec<ValueId> = found.iter().filter_map(|found| float.nodes[found.node].input(0)).collect();
    let sampled = sample(float, &inputs, &context)?;
    let probes = some(float, probes, samples_within(float, &inputs, LARGEST))?;
    let probes = tap(float, &inputs, &probes, context.engine)?;
    let evidence = Evidence { float, plan, activations: &activations, sampled: &sampled, probes: &probes };
    let (weights, outcomes) = evidence.round_all(&found, &nearest.tensors, context.threads)?;
    let (biases, own) = correct(float, plan, outcomes)?;
    let steps = [start.steps.clone(), own].concat();
    let enlarged = nearest.enlarged.clone();
    let solution = Solution { activations, sources, weights, enlarged, biases, steps };
    Ok(Analytic { solved: start.solved(plan, solution), nearest })
}

impl Analytic {
    /// Returns whether channels were equalized or absorbed.
    pub fn changes_links(&self) -> bool {
        self.solved.solution.steps.iter().any(|step| is_of_links(step) && step.refused.is_none())
    }

    /// Returns `start` rounded to nearest on the same activation ranges, without equalization or absorption.
    pub fn nearest(&self, start: &Candidate) -> Solved {
        let Solution { activations, sources, .. } = &self.solved.solution;
        let solution = self.nearest.clone().solution(activations.clone(), sources.clone(), Vec::new());
        start.solved(&self.solved.plan, solution)
    }

    /// Returns this result without bias corrections.
    pub fn uncorrected(self, why: &str) -> Self {
        let mut found = self;
        found.solved.solution.biases = Biases::new();
        refuse(&mut found.solved.solution.steps, &["bias"], why);
        found
    }

    /// Returns `start`, which is rounded to nearest, with these steps marked as rejected for `why`.
    pub fn rounded_to_nearest(self, start: &Solved, why: &str) -> Self {
        let mut steps = self.solved.solution.steps;
        refuse(&mut steps, &["rounding", "bias"], why);
        let solution = Solution { steps, ..start.solution.clone() };
        Self { solved: Solved { solution, ..start.clone() }, ..self }
    }

    /// Returns this result, which has no equalized or absorbed channels, with the equalization and absorption steps of
    /// `others` marked as rejected for `why`.
    pub fn in_place_of_links(self, others: &Self, why: &str) -> Self {
        let mut found = self;
        let of_links = others.solved.solution.steps.iter().filter(|step| is_of_links(step));
        let mut steps: Vec<LayerStep> = of_links.cloned().collect();
        refuse(&mut steps, &["equalise", "absorb"], why);
        steps.append(&mut found.solved.solution.steps);
        found.solved.solution.steps = steps;
        found
    }
}

fn is_of_links(step: &LayerStep) -> bool {
    matches!(step.step, "equalise" | "absorb")
}

fn refuse(steps: &mut [LayerStep], names: &[&str], why: &str) {
    let named = steps.iter_mut().filter(|step| names.contains(&step.step) && step.refused.is_none());
    named.for_each(|step| step.refused = Some(why.to_owned()));
}

/// A layer with a weight: the indices of the layer, its node and its weight.
#[derive(Clone, Copy)]
struct Found {
    layer: usize,
    node: usize,
    weight: usize,
}

fn layers(float: &Graph, plan: &Plan) -> impl Iterator<Item = Found> {
    let layers = plan.layers.iter().enumerate();
    layers.filter_map(|(layer, l)| Some(Found { layer, node: node_of(float, &l.output)?, weight: l.weight? }))
}

/// The result for a layer.
struct Outcome {
    found: Found,
    /// For the layer whose inputs the weight was rounded against: the reason why its rounding was rejected, if so.
    rounding: Option<Option<&'static str>>,
    bias: Correction,
}

/// The correction of a bias.
enum Correction {
    /// The shift of each output's mean, and why it is partial, if so.
    Shift(Vec<f64>, Option<&'static str>),
    /// No correction, as it would do harm.
    Harmful,
    /// No correction, as the shift is unknown.
    Unknown,
}

/// The data for rounding.
struct Evidence<'a> {
    float: &'a Graph,
    plan: &'a Plan,
    activations: &'a [Grid],
    sampled: &'a HashMap<ValueId, Sample>,
    probes: &'a HashMap<ValueId, Sample>,
}

impl Evidence<'_> {
    /// Rounds all weights, each for the layers among `found` that use it; returns the outcomes in the order of layers.
    fn round_all(
        &self,
        found: &[Found],
        nearest: &[QuantizedTensor],
        threads: usize,
    ) -> Result<(Vec<QuantizedTensor>, Vec<Outcome>)> {
        let readers = |weight| found.iter().copied().filter(|found| found.weight == weight).collect::<Vec<_>>();
        let weights = nearest.iter().enumerate().map(|(weight, nearest)| (readers(weight), nearest));
        let size = |(_, nearest): &(Vec<Found>, &QuantizedTensor)| nearest.bytes.len();
        let made = parallel::map_by_size(threads, weights, size, |(readers, nearest), threads| {
            let made = self.round(&readers, nearest, threads);
            onnx::release_pages();
            made
        });
        let (mut weights, mut outcomes) = (Vec::new(), Vec::new());
        for made in made {
            let (tensor, of_layers) = made?;
            weights.push(tensor);
            outcomes.extend(of_layers);
        }
        outcomes.sort_by_key(|outcome: &Outcome| outcome.found.layer);
        Ok((weights, outcomes))
    }

    /// Rounds one weight for the first of its `readers` that is supported.
    fn round(
        &self,
        readers: &[Found],
        nearest: &QuantizedTensor,
        threads: usize,
    ) -> Result<(QuantizedTensor, Vec<Outcome>)> {
        let fit = BiasFit { float: self.float, plan: self.plan, activations: self.activations, biases: None };
        let mut rounded = None;
        let mut outcomes = Vec::with_capacity(readers.len());
        for &found in readers {
            let node = &self.float.nodes[found.node];
            let grid = &self.activations[self.plan.layers[found.layer].input];
            let rows = Rows::read(self.float, node)?;
            let input = node.input(0).and_then(|id| self.sampled.get(&id));
            let (rows, input) = match (rows, input) {
                (Some(rows), Some(input)) => (rows, input),
                (rows, _) => {
                    let why =
                        if rows.is_none() { "its weight is of an unknown form" } else { "its input is not finite" };
                    outcomes.push(Outcome { found, rounding: Some(Some(why)), bias: Correction::Unknown });
                    continue;
                }
            };
            let Some(seen) = Seen::of(node, &rows, input, grid, threads) else {
                let refused =
                    rounded.is_none().then_some(Some("its input patches are not known, roundings are flipped"));
                let tensor = rounded.get_or_insert_with(|| flipped(&rows, nearest));
                let shift = mean_shift(&rows, tensor, &input.means(channel_axis(self.float, found.node)));
                outcomes.push(Outcome { found, rounding: refused, bias: Correction::Shift(shift, None) });
                continue;
            };
            let trial = node.input(0).and_then(|id| self.probes.get(&id));
            let trial = trial.and_then(|probes| Trial::of(node, &rows, probes, grid));
            let first = rounded.is_none();
            let tensor = match &rounded {
                Some(tensor) => tensor,
                None => {
                    let fitted = Fitted::of(&rows, nearest, &seen, threads);
                    let (fitting, _) = fit.fitted(found.weight, &fitted.grid)?;
                    rounded.insert(fitted.within(&rows, nearest, &fitting.scale))
                }
            };
            let (is_kept, bias) = judged(&rows, [nearest, tensor], &seen, trial.as_ref());
            if first && !is_kept {
                rounded = Some(nearest.clone());
            }
            let harmful = (!is_kept).then_some(ROUNDING_HARMS);
            outcomes.push(Outcome { found, rounding: first.then_some(harmful), bias });
        }
        Ok((rounded.unwrap_or_else(|| nearest.clone()), outcomes))
    }
}

/// Returns whether `rounded` replaces `nearest`, and the bias correction in that case.
fn judged(
    rows: &Rows,
    [nearest, rounded]: [&QuantizedTensor; 2],
    seen: &[Seen],
    trial: Option<&Trial>,
) -> (bool, Correction) {
    let means: Vec<&Means> = seen.iter().map(|seen| &seen.means).collect();
    let whole = shift(rows, rounded, &means, |means| &means.before);
    let Some(trial) = trial else { return (true, Correction::Shift(whole, None)) };
    let within = shift(rows, rounded, &means, |means| &means.within);
    match trial.verdict(rows, [nearest, rounded], &[&whole, &within]) {
        Use::Rounding(Some(0)) => (true, Correction::Shift(whole, None)),
        Use::Rounding(Some(_)) => (true, Correction::Shift(within, Some(WITHIN))),
        Use::Rounding(None) => (true, Correction::Harmful),
        Use::Nearest => (false, Correction::Harmful),
    }
}

/// Returns the corrected biases and the step reports of each layer: roundings, then biases.
fn correct(float: &Graph, plan: &Plan, outcomes: Vec<Outcome>) -> Result<(Biases, Vec<LayerStep>)> {
    let mut corrected = Biases::new();
    let (mut roundings, mut biases) = (Vec::new(), Vec::new());
    for Outcome { found, rounding, bias } in outcomes {
        let layer = &plan.layers[found.layer];
        if let Some(refused) = rounding {
            roundings.push(LayerStep::new("rounding", layer.name.clone(), refused.map(str::to_owned)));
        }
        let step = |refused: Option<&str>| LayerStep::new("bias", layer.name.clone(), refused.map(str::to_owned));
        let (shift, note) = match bias {
            Correction::Unknown => continue,
            Correction::Harmful => {
                biases.push(step(Some(CORRECTION_HARMS)));
                continue;
            }
            Correction::Shift(shift, note) => (shift, note),
        };
        let is_corrected = correct_bias(float, found.node, &shift, &mut corrected)?;
        let refused = (!is_corrected).then_some("it has no bias, or one of an unknown form");
        biases.push(LayerStep { note: note.map(str::to_owned), ..step(refused) });
    }
    roundings.append(&mut biases);
    Ok((corrected, roundings))
}
