//! Distills the whole network from the outputs of the float network: weights, biases and scales.

use super::whole::{Whole, distillation};
use crate::error::Result;
use crate::recipes::Effort;
use crate::recipes::training::Training;
use crate::solution::Solved;
use crate::train::StageReport;

pub(super) fn distil(effort: &Effort, solved: &mut Solved, training: &mut Training) -> Result<StageReport> {
    let distillation = distillation(solved)?;
    let stage = Whole {
        name: "distil",
        steps: effort.steps,
        learning_rate: 0.01,
        distillation: &distillation,
        step: &|batch, lowering| distillation.step(batch, lowering),
        draw: 0,
        feeds: &|_, _| Vec::new(),
    };
    stage.train(solved, training)
}
