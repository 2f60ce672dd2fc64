//! Adversarial training of the whole network: on images of a generator that maximizes the student's distance to the
//! float network, beside the images synthesized before (Choi et al. 2020).

use super::whole::{Whole, distillation};
use crate::error::Result;
use crate::recipes::Effort;
use crate::recipes::training::Training;
use crate::solution::Solved;
use crate::synthesis::AdversarialGame;
use crate::train::StageReport;

const NAME: &str = "adversarial";
/// Separates the random numbers of this stage from those of others.
const CHANCE: u64 = 0x7269_7661_6c73;

pub(super) fn adversarial(effort: &Effort, solved: &mut Solved, training: &mut Training) -> Result<StageReport> {
    let Some(trained_generator) = training.trained_generator.clone() else {
        return Ok(training.report(NAME, training.samples()));
    };
    let distillation = distillation(solved)?;
    let game = AdversarialGame::new(&distillation, trained_generator)?;
    let seed = training.context.seed;
    let stage = Whole {
        name: NAME,
        steps: effort.adversarial_steps,
        // Lower, since it fine-tunes a network that the other stages have trained.
        learning_rate: 0.005,
        distillation: &distillation,
        step: &|batch, lowering| game.step(batch, lowering),
        draw: CHANCE,
        feeds: &|batch, step| game.feeds(batch, (seed, CHANCE, step)),
    };
    stage.train(solved, training)
}
