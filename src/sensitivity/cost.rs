//! The distance of a partly quantized model from the float model, as a number that adds up over layers.

use serde::Serialize;

use crate::data::{Dataset, Preprocess, class_scores, evaluate};
use crate::error::Result;
use crate::ir::{DType, Graph, Tensor};
use crate::outputs::{answering, compared_tensors, may_hold_scores};
use crate::runtime::{Engine, SessionOptions};
use crate::verify::{Comparison, Top1, numbers, split};

/// Samples in one run.
const BATCH: usize = 16;
/// Images in one run for accuracy.
const EVALUATION_BATCH: usize = 50;

/// The measure of [`Cost::cost`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Kullback-Leibler divergence of the class probabilities from the float model's, in nats a sample.
    ClassDivergence,
    /// Power of the error over power of the float output, averaged over outputs.
    NoiseToSignal,
}

/// The distance from the float model on synthetic inputs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Cost {
    /// The value that ranks layers, see [`Measure`]. To first order, costs of layers add up.
    pub cost: f64,
    /// RMS of the error over RMS of the float output, averaged over outputs.
    pub relative_rms: f64,
    /// Signal-to-noise ratio of the worst output in dB.
    pub sqnr_db: f64,
    /// Share of samples with the float model's highest class, where an output holds class scores.
    pub top1_agreement: Option<f64>,
}

/// The user's labeled images.
#[derive(Clone, Copy, Debug)]
pub struct Labelled<'a> {
    /// The images.
    pub data: &'a Dataset,
    /// Their preprocessing.
    pub preprocess: &'a Preprocess,
}

/// The float model's answers, computed once.
pub struct Reference<'a> {
    engine: &'a dyn Engine,
    /// The compared tensors, such as the scores before a trailing Softmax.
    compared: Vec<(String, DType)>,
    batches: Vec<Vec<Tensor>>,
    outputs: Vec<Vec<Tensor>>,
    measure: Measure,
}

impl<'a> Reference<'a> {
    /// Returns the answers of `float` to `inputs` (batch axis first).
    ///
    /// # Errors
    /// When inputs do not fit, or the engine fails.
    pub fn new(engine: &'a dyn Engine, float: &Graph, inputs: &[Tensor]) -> Result<Self> {
        let samples = inputs.first().and_then(|t| t.shape().first()).copied().unwrap_or(1);
        let batches = split(float, inputs, samples, BATCH)?;
        let tensors = compared_tensors(float);
        let compared = tensors.iter().map(|&(id, dtype)| (float.name_of(id).to_owned(), dtype)).collect();
        let mut reference = Self { engine, compared, batches, outputs: Vec::new(), measure: Measure::NoiseToSignal };
        reference.outputs = reference.run(float)?;
        if let (Some([only]), [(id, _)]) = (reference.outputs.first().map(Vec::as_slice), tensors.as_slice())
            && class_scores(only).is_some()
            && may_hold_scores(float, *id)
        {
            reference.measure = Measure::ClassDivergence;
        }
        Ok(reference)
    }

    /// Returns the measure of [`Cost::cost`] for this model.
    pub fn measure(&self) -> Measure {
        self.measure
    }

    /// Returns the number of compared samples.
    pub fn samples(&self) -> usize {
        self.batches.iter().filter_map(|batch| batch.first()?.shape().first()).sum()
    }

    /// Returns the distance of `graph` from the float model.
    ///
    /// # Errors
    /// When the engine refuses the graph or fails to run it.
    pub fn cost(&self, graph: &Graph) -> Result<Cost> {
        let outputs = self.run(graph)?;
        let count = self.outputs.first().map_or(0, Vec::len);
        let (mut errors, mut top1) = (vec![Comparison::default(); count], Top1::default());
        let (mut divergence, mut rows) = (0.0, 0);
        for (expected, found) in self.outputs.iter().zip(&outputs) {
            for (i, (expected, found)) in expected.iter().zip(found).enumerate() {
                errors[i].add(&numbers(expected), &numbers(found));
                top1.add(expected, found);
                if let (Some((n, classes, p)), Some((_, _, q))) = (class_scores(expected), class_scores(found)) {
                    divergence += p.chunks(classes).zip(q.chunks(classes)).map(|(p, q)| kl(p, q)).sum::<f64>();
                    rows += n;
                }
            }
        }
        let mean = |value: &dyn Fn(&Comparison) -> f64| errors.iter().map(value).sum::<f64>() / count.max(1) as f64;
        let cost = match self.measure {
            Measure::ClassDivergence => divergence / rows.max(1) as f64,
            Measure::NoiseToSignal => mean(&|error| error.relative_rms().powi(2)),
        };
        Ok(Cost {
            cost: finite(cost),
            relative_rms: finite(mean(&Comparison::relative_rms)),
            sqnr_db: errors.iter().map(Comparison::sqnr_db).min_by(f64::total_cmp).unwrap_or(crate::verify::EQUAL_DB),
            top1_agreement: top1.agreement(),
        })
    }

    /// Returns the top-1 accuracy of `graph` on the labeled images, 0 to 1.
    ///
    /// # Errors
    /// As [`evaluate`].
    pub fn accuracy(&self, graph: &Graph, images: Labelled) -> Result<f64> {
        Ok(evaluate(self.engine, graph, images.data, images.preprocess, EVALUATION_BATCH)?.top1())
    }

    fn run(&self, graph: &Graph) -> Result<Vec<Vec<Tensor>>> {
        let tapped = answering(graph, &self.compared)?;
        let mut session = self.engine.load(&tapped, &SessionOptions::default())?;
        self.batches.iter().map(|batch| session.run(batch)).collect()
    }
}

/// NaN and infinite costs become the largest finite number (JSON cannot hold infinity).
fn finite(cost: f64) -> f64 {
    const WORST: f64 = 1e30;
    if cost.is_nan() { WORST } else { cost.min(WORST) }
}

/// Returns the divergence of `softmax(q)` from `softmax(p)` in nats.
fn kl(p: &[f32], q: &[f32]) -> f64 {
    let (log_p, log_q) = (log_softmax(p), log_softmax(q));
    let divergence: f64 = log_p.iter().zip(&log_q).map(|(p, q)| p.exp() * (p - q)).sum();
    if divergence < 0.0 { 0.0 } else { divergence }
}

fn log_softmax(scores: &[f32]) -> Vec<f64> {
    let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let shifted: Vec<f64> = scores.iter().map(|&s| f64::from(s) - f64::from(highest)).collect();
    let sum: f64 = shifted.iter().map(|s| s.exp()).sum();
    shifted.iter().map(|s| s - sum.ln()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_divergence_of_known_distributions_is_the_known_one() {
        // ln(0.5 / 0.25) / 2 + ln(0.5 / 0.75) / 2, by hand.
        let found = kl(&[0.0, 0.0], &[0.25f32.ln(), 0.75f32.ln()]);
        assert!((found - 0.143_841_036).abs() < 1e-6, "{found}");
        assert_eq!(kl(&[3.0, 1.0], &[13.0, 11.0]), 0.0, "a constant added to all scores is no difference");
    }

    #[test]
    fn what_is_not_a_number_costs_most() {
        assert!(finite(f64::NAN) > finite(1e9) && finite(f64::INFINITY).is_finite());
        assert!(kl(&[0.0, 1.0], &[f32::NAN, 0.0]).is_nan());
    }
}
