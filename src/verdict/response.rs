//! Responses of a quantized model to inputs, compared with the float model: the figures of a verdict.
//!
//! The signal is what an output *varies* by from input to input, not its size: networks whose outputs have a large
//! constant part (scores behind a Relu, probabilities) look precise by a plain signal-to-noise ratio even when every
//! input gets the same answer.

use serde::Serialize;

use crate::data::{CenteredNoise, argmax, class_scores};
use crate::error::Result;
use crate::ir::{Graph, Tensor};
use crate::outputs::{is_of_variable_size, may_hold_scores};
use crate::runtime::{Engine, SessionOptions};
use crate::verify::numbers;

/// Smaller probabilities count as equal.
const SMALLEST_PROBABILITY: f64 = 1e-12;
/// The tolerated difference of a sum of probabilities from 1.
const PROBABILITY_SUM: f64 = 1e-2;

/// The response of one output of the quantized model, compared with the float model on the same inputs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Response {
    /// The output.
    pub output: String,
    /// Variance of the float output between inputs over the mean squared error, in dB ([`CenteredNoise::sqnr_db`]).
    /// Class scores are compared up to a constant for each input. None for labels, and where the float output does not
    /// vary.
    pub centered_sqnr_db: Option<f64>,
    /// The same with the square of the float output as signal.
    pub sqnr_db: Option<f64>,
    /// Share of inputs with the same highest class, or the same label.
    pub agreement: Option<f64>,
    /// Whether the output holds class scores.
    pub is_scores: bool,
}

/// Returns the responses of `quantized` on `inputs` (samples first), output by output; outputs whose size depends on
/// the data are left out.
///
/// # Errors
/// When `engine` refuses a model or fails to run it.
pub fn responses(
    original: &Graph,
    quantized: &Graph,
    engine: &dyn Engine,
    batches: &[Vec<Tensor>],
) -> Result<Vec<Response>> {
    let load = |graph: &Graph| engine.load(graph, &SessionOptions::default());
    let (mut float, mut low) = (load(original)?, load(quantized)?);
    let places = original.outputs.iter().copied().enumerate().filter(|&(_, id)| !is_of_variable_size(original, id));
    let mut outputs: Vec<_> = places.map(|(place, id)| (place, id, Sums::new(may_hold_scores(original, id)))).collect();
    for batch in batches {
        let (float, low) = (float.run(batch)?, low.run(batch)?);
        for (place, _, sums) in &mut outputs {
            if let (Some(float), Some(low)) = (float.get(*place), low.get(*place)) {
                sums.add(float, low, Tensor::samples_of(batch));
            }
        }
    }
    Ok(outputs.iter().map(|(_, id, sums)| sums.response(original.name_of(*id))).collect())
}

/// Sums over samples.
struct Sums {
    may_hold_scores: bool,
    is_scores: bool,
    noise: CenteredNoise,
    /// Inputs with the same highest class or label, and inputs that have one.
    agreeing: [usize; 2],
}

impl Sums {
    fn new(may_hold_scores: bool) -> Self {
        Self { may_hold_scores, is_scores: false, noise: CenteredNoise::default(), agreeing: [0, 0] }
    }

    fn add(&mut self, float: &Tensor, quantized: &Tensor, samples: usize) {
        if let (Ok(a), Ok(b)) = (float.to_i64(), quantized.to_i64()) {
            let same = a.iter().zip(&b).filter(|(a, b)| a == b).count();
            self.agreeing = [self.agreeing[0] + same, self.agreeing[1] + a.len().max(b.len())];
            return;
        }
        let classes = class_scores(float).filter(|_| self.may_hold_scores).map(|(_, classes, _)| classes);
        let (float, quantized) = (numbers(float), numbers(quantized));
        if float.len() != quantized.len() {
            return self.noise.add(&widened(&float), &widened(&quantized));
        }
        let width = classes.unwrap_or_else(|| float.len() / samples.max(1));
        if width == 0 || !float.len().is_multiple_of(width) {
            return;
        }
        self.is_scores |= classes.is_some();
        for (float, quantized) in float.chunks(width).zip(quantized.chunks(width)) {
            if classes.is_none() {
                self.noise.add(&widened(float), &widened(quantized));
                continue;
            }
            let same = argmax(float) == argmax(quantized);
            self.agreeing = [self.agreeing[0] + usize::from(same), self.agreeing[1] + 1];
            self.noise.add(&log_scores(float, float), &log_scores(quantized, float));
        }
    }

    fn response(&self, output: &str) -> Response {
        let [agreeing, all] = self.agreeing;
        Response {
            output: output.to_owned(),
            centered_sqnr_db: self.noise.sqnr_db(),
            sqnr_db: self.noise.plain_sqnr_db(),
            agreement: (all > 0).then(|| agreeing as f64 / all as f64),
            is_scores: self.is_scores,
        }
    }
}

fn widened(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

/// Returns class scores minus their mean: those of `row`, or their logarithms where the float model returns
/// probabilities.
fn log_scores(row: &[f32], float: &[f32]) -> Vec<f64> {
    let sum: f64 = float.iter().map(|&v| f64::from(v)).sum();
    let is_probabilities = float.iter().all(|&v| v >= 0.0) && (sum - 1.0).abs() < PROBABILITY_SUM;
    let mut scores = widened(row);
    if is_probabilities {
        // Probabilities on a grid are 0 below its first step.
        let has_zero = scores.contains(&0.0);
        let step = scores.iter().copied().filter(|&v| v > 0.0).fold(1.0, f64::min);
        let least = if has_zero { SMALLEST_PROBABILITY.max(step / 2.0) } else { SMALLEST_PROBABILITY };
        scores.iter_mut().for_each(|v| *v = v.max(least).ln());
    }
    let mean = scores.iter().sum::<f64>() / scores.len().max(1) as f64;
    scores.iter_mut().for_each(|v| *v -= mean);
    scores
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::EQUAL_DB;

    fn response(float: &[f32], quantized: &[f32], shape: &[usize], scores: bool) -> Response {
        let mut sums = Sums::new(scores);
        sums.add(&Tensor::from_f32(shape, float), &Tensor::from_f32(shape, quantized), shape[0]);
        sums.response("y")
    }

    #[test]
    fn scores_count_up_to_a_constant_and_other_outputs_as_they_are() {
        let (float, shifted) = ([2.0, 0.0, 0.0, 2.0], [7.0, 5.0, 3.0, 5.0]);
        let [scores, other] = [true, false].map(|scores| response(&float, &shifted, &[2, 2], scores));
        assert_eq!((scores.centered_sqnr_db, scores.agreement), (Some(EQUAL_DB), Some(1.0)));
        assert!(other.centered_sqnr_db.unwrap() < -10.0 && other.agreement.is_none(), "{other:?}");
    }

    #[test]
    fn probabilities_are_compared_as_scores_and_a_grid_of_theirs_has_a_floor() {
        let float = [0.9f32, 0.1, 0.2, 0.8];
        let same = response(&float, &float, &[2, 2], true);
        assert_eq!(same.centered_sqnr_db, Some(EQUAL_DB));
        let on_a_grid = response(&[0.999, 0.001, 0.2, 0.8], &[1.0, 0.0, 0.2, 0.8], &[2, 2], true);
        assert!(on_a_grid.centered_sqnr_db.unwrap() > -3.0, "{on_a_grid:?}");
    }
}
