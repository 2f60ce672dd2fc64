//! `fast`: the best result without training. Rounds every weight to minimize the change of the layer's output over
//! synthetic inputs, which run through the float network with its batch-normalization statistics; corrects biases for
//! the shift that quantized weights and inputs cause. Weights with one scale per tensor are equalized first.
//!
//! Every step is compared with rounding to nearest, layer by layer and end to end, on held-out inputs, and rejected
//! with a reason where it does harm: the statistics may not match the real inputs.

use super::analytic::{analytic, nearest};
use super::judge::Judge;
use super::probes::probes;
use super::{Effort, Recipe};
use crate::calibrate::CalibrationContext;
use crate::error::Result;
use crate::ir::Graph;
use crate::plan::Plan;
use crate::solution::{Solution, Solved};

pub(super) const RECIPE: Recipe = Recipe {
    name: "fast",
    summary: "rounds against the covariance of each layer's synthetic inputs and corrects biases",
    citation: "rounding after Frantar et al. 2022 (GPTQ), equalisation and bias correction after Nagel et al. 2019 (DFQ)",
    run: fast,
    stages: &[],
    effort: Effort::NONE,
    wants_images: false,
};

/// The steps to give up in turn where the result does harm.
#[derive(Clone, Copy, Debug)]
enum Retreat {
    /// Equalization and absorption of channels.
    Links,
    /// Bias corrections.
    Biases,
    /// Everything but rounding to nearest.
    Rounding,
}

pub(super) fn fast(float: &mut Graph, plan: &Plan, context: &CalibrationContext) -> Result<Solution> {
    let probes = probes(float, context)?;
    let mut found = analytic(float, plan, (context, &probes), true)?;
    let (start, retreats) = match found.changes_links() {
        true => (nearest(float, plan, context)?, &[Retreat::Links, Retreat::Biases, Retreat::Rounding][..]),
        false => (found.nearest(float), &[Retreat::Biases, Retreat::Rounding][..]),
    };
    let judge = Judge::new(float, &probes, context)?;
    let limit = judge.ratios(&start)?;
    for retreat in retreats {
        let Some(why) = judge.harm(&judge.ratios(&found.solved)?, &limit) else { break };
        found = match retreat {
            Retreat::Links => analytic(float, plan, (context, &probes), false)?.in_place_of_links(&found, &why),
            Retreat::Biases => found.uncorrected(&why),
            Retreat::Rounding => found.rounded_to_nearest(&start, &why),
        };
    }
    let Solved { float: chosen, solution, .. } = found.solved;
    *float = chosen;
    Ok(solution)
}
