//! `fast`: the best result without training. Rounds every weight to minimize the change of the layer's output over
//! synthetic inputs, which run through the float network with its batch-normalization statistics; corrects biases for
//! the shift that quantized weights and inputs cause. Weights with one scale per tensor are equalized first.
//!
//! Every step is compared with rounding to nearest, layer by layer and end to end, on held-out inputs, and rejected
//! with a reason where it does harm: the statistics may not match the real inputs.

use super::analytic::analytic;
use super::judge::Judge;
use super::nearest::nearest;
use super::probes::probes;
use super::{Candidates, Recipe, TrainingBudget};
use crate::calibrate::CalibrationContext;
use crate::error::Result;
use crate::layers::Scope;
use crate::solution::Solved;

pub(super) const RECIPE: Recipe = Recipe {
    name: "fast",
    summary: "rounds against the covariance of each layer's synthetic inputs, corrects biases, and refits low-bit weights",
    citation: "rounding after Frantar et al. 2022 (GPTQ), equalization and bias correction after Nagel et al. 2019 (DFQ), \
               refit after Li et al. 2025 (GPTAQ)",
    equalized: Some(Scope::SharedScales),
    run: fast,
    stages: &[],
    budget: TrainingBudget::NONE,
    wants_images: false,
    refits: true,
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

pub(super) fn fast(candidates: &Candidates, context: &CalibrationContext) -> Result<Solved> {
    let Candidates { plan, plain, .. } = candidates;
    let probes = probes(&plain.graph, context)?;
    let mut found = analytic(candidates.preferred(), plan, context, &probes)?;
    let (start, retreats) = match found.changes_links() {
        true => (nearest(candidates, context)?, &[Retreat::Links, Retreat::Biases, Retreat::Rounding][..]),
        false => (found.nearest(plain), &[Retreat::Biases, Retreat::Rounding][..]),
    };
    let judge = Judge::new(&plain.graph, &probes, context)?;
    let limit = judge.ratios(&start)?;
    for retreat in retreats {
        let Some(why) = judge.harm(&judge.ratios(&found.solved)?, &limit) else { break };
        found = match retreat {
            Retreat::Links => analytic(plain, plan, context, &probes)?.in_place_of_links(&found, &why),
            Retreat::Biases => found.uncorrected(&why),
            Retreat::Rounding => found.rounded_to_nearest(&start, &why),
        };
    }
    Ok(found.solved)
}
