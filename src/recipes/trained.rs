//! Updates a solution with the result of training.

use super::weights::BiasFit;
use crate::error::Result;
use crate::quant::round_to_nearest;
use crate::solution::{RangeSource, Solved};
use crate::train::TrainedParameters;

impl Solved {
    /// Writes trained values into the solution. Enlarges weight scales whose bias no longer fits int32 because the
    /// input's scale decreased.
    ///
    /// # Errors
    /// When the values of a bias cannot be read.
    pub fn apply_trained(&mut self, trained: TrainedParameters) -> Result<()> {
        let TrainedParameters { activations, weights, biases } = trained;
        let Self { float, plan, solution, .. } = self;
        solution.activations = activations;
        solution.weights = weights;
        solution.biases.extend(biases);
        solution.sources.fill(RangeSource::Trained);
        let fit = BiasFit { float, plan, activations: &solution.activations, biases: Some(&solution.biases) };
        for (index, weight) in solution.weights.iter_mut().enumerate() {
            let (grid, changed) = fit.fitted(index, &weight.grid)?;
            if changed > 0 {
                *weight = round_to_nearest(grid, &weight.shape, &weight.dequantize());
                let name = &plan.weights[index].tensor;
                solution.enlarged.retain(|(enlarged, _)| enlarged != name);
                solution.enlarged.push((name.clone(), changed));
            }
        }
        Ok(())
    }
}
