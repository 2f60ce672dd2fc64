//! Updates a solution with the result of training.

use super::weights::fit_biases;
use crate::error::Result;
use crate::ir::Graph;
use crate::plan::Plan;
use crate::quant::{Grid, round_to_nearest};
use crate::solution::{RangeSource, Solution, Solved};
use crate::train::Trained;

impl Solved {
    /// Writes trained values into the solution.
    ///
    /// # Errors
    /// When the values of a bias cannot be read.
    pub fn apply_trained(&mut self, trained: Trained) -> Result<()> {
        let Trained { activations, weights, biases } = trained;
        let Self { float, plan, solution } = self;
        for layer in &plan.layers {
            let Some(bias) = float.maker(&layer.output).and_then(|node| node.input(2)) else { continue };
            let Some((_, trained)) = biases.iter().find(|(name, _)| name == float.name_of(bias)) else { continue };
            if let (Some(before), Some(correction)) =
                (float.constant_of(bias), solution.corrections.get_mut(&layer.output))
            {
                // A layer that is left float must undo the trained change too.
                let pairs = before.to_f32()?.into_iter().zip(trained.to_f32()?);
                correction.iter_mut().zip(pairs).for_each(|(c, (before, now))| *c += before - now);
            }
        }
        for (name, trained) in biases {
            if let Some(bias) = float.find(&name) {
                float.value_mut(bias).constant = Some(trained);
            }
        }
        solution.activations = activations;
        solution.weights = weights;
        solution.sources.fill(RangeSource::Trained);
        refit_biases(float, plan, solution)
    }
}

/// Enlarges weight scales whose bias no longer fits int32 because the input's scale decreased.
fn refit_biases(float: &Graph, plan: &Plan, solution: &mut Solution) -> Result<()> {
    for (index, weight) in solution.weights.iter_mut().enumerate() {
        let scale = fit_biases(float, plan, index, &solution.activations, &weight.grid.scale)?;
        let changed = scale.iter().zip(&weight.grid.scale).filter(|(new, old)| new != old).count();
        if changed > 0 {
            let grid = Grid { scale, ..weight.grid.clone() };
            *weight = round_to_nearest(grid, &weight.shape, &weight.dequantize());
            let name = &plan.weights[index].tensor;
            solution.enlarged.retain(|(enlarged, _)| enlarged != name);
            solution.enlarged.push((name.clone(), changed));
        }
    }
    Ok(())
}
