//! `nearest`: rounding to nearest on grids of least squared error, with ranges from batch-normalization statistics.

use super::weights::nearest_weights;
use super::{Effort, Recipe};
use crate::calibrate::{CalibrationContext, calibrate};
use crate::error::Result;
use crate::ir::Graph;
use crate::plan::Plan;
use crate::solution::Solution;

pub(super) const RECIPE: Recipe = Recipe {
    name: "nearest",
    summary: "round to nearest, least-squares scales, activation ranges from batch-normalisation statistics",
    citation: "ranges after Nagel et al. 2019 (DFQ), section 4.2 and appendix C",
    run: nearest,
    stages: &[],
    effort: Effort::NONE,
    wants_images: false,
};

fn nearest(float: &mut Graph, plan: &Plan, context: &CalibrationContext) -> Result<Solution> {
    let ranges = calibrate(float, plan, context)?;
    let weights = nearest_weights(float, plan, &ranges.0, context.threads)?;
    Ok(weights.solution(ranges, Vec::new()))
}
