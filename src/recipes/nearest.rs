//! `nearest`: rounding to nearest on grids of least squared error, with ranges from batch-normalization statistics.

use super::weights::nearest_weights;
use super::{Candidates, Recipe, TrainingBudget};
use crate::calibrate::{CalibrationContext, calibrate};
use crate::error::Result;
use crate::solution::Solved;

pub(super) const RECIPE: Recipe = Recipe {
    name: "nearest",
    summary: "rounds to nearest, with least-squares scales and activation ranges from batch-normalization statistics",
    citation: "ranges after Nagel et al. 2019 (DFQ), section 4.2 and appendix C",
    equalized: None,
    run: nearest,
    stages: &[],
    budget: TrainingBudget::NONE,
    wants_images: false,
    refits: false,
};

pub(super) fn nearest(Candidates { plan, plain, .. }: &Candidates, context: &CalibrationContext) -> Result<Solved> {
    let (activations, sources) = calibrate(&plain.graph, plan, context)?;
    let weights = nearest_weights(&plain.graph, plan, &activations, context.threads)?;
    Ok(plain.solved(plan, weights.solution(activations, sources, Vec::new())))
}
