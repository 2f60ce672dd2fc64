//! The whole network learns from images that a generator makes to find where it is far from the float one, beside those
//! that were made before (Choi et al. 2020).

use super::whole::{Whole, distillation};
use crate::error::Result;
use crate::recipes::Effort;
use crate::recipes::training::Training;
use crate::solution::Solved;
use crate::synthesis::AdversarialGame;
use crate::train::StageReport;

const NAME: &str = "adversarial";
/// Keeps the numbers that are drawn here apart from those of other stages.
const CHANCE: u64 = 0x7269_7661_6c73;

pub(super) fn adversarial(effort: &Effort, solved: &mut Solved, training: &mut Training) -> Result<StageReport> {
    let Some(generator_at_end) = training.generator_at_end.clone() else {
        return Ok(training.report(NAME, training.samples()));
    };
    let distillation = distillation(solved)?;
    let game = AdversarialGame::new(&distillation, generator_at_end)?;
    let seed = training.context.seed;
    let stage = Whole {
        name: NAME,
        steps: effort.adversarial_steps,
        // It begins where others have come to rest.
        learning_rate: 0.005,
        distillation: &distillation,
        step: &|batch, lowering| game.step(batch, lowering),
        draw: CHANCE,
        feeds: &|batch, step| game.feeds(batch, (seed, CHANCE, step)),
    };
    stage.train(solved, training)
}
