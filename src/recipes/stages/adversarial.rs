//! Adversarial training of the whole network: on images of a generator that maximizes the student's distance to the
//! float network, beside the images synthesized before (Choi et al. 2020). Student and generator are updated in the same
//! step; the generator starts as the one of image synthesis.

use super::whole::{OBJECTIVE, Whole, distillation};
use crate::error::Result;
use crate::lab::{Lab, LatentMixer, Teacher};
use crate::recipes::TrainingBudget;
use crate::solution::Solved;
use crate::train::{Optimiser, StageReport};

const NAME: &str = "adversarial";
/// Separates the random numbers of this stage from those of others.
const STAGE: u64 = 0x7269_7661_6c73;
/// The generator's learning rate relative to the student's.
const GENERATOR_RATE: f32 = 0.2;

pub(super) fn adversarial(budget: &TrainingBudget, solved: &mut Solved, lab: &mut Lab) -> Result<StageReport> {
    let Some(trained) = lab.trained_generator.clone() else { return Ok(lab.report(NAME, lab.samples())) };
    let distillation = distillation(solved)?;
    let teacher = Teacher::new(trained.synthesis.clone());
    let generator = LatentMixer::new(trained, GENERATOR_RATE)?;
    // Lower than that of distillation, since it fine-tunes a network that the other stages have trained.
    let whole = Whole { name: NAME, steps: budget.adversarial_steps, learning_rate: 0.005, stage: STAGE };
    whole.train(&distillation, solved, lab, |phase| {
        let (scope, student) = (phase.scope, phase.student);
        let stored = distillation.compared(&phase.inputs, student.vectors_in(scope))?;
        let images = generator.images(scope);
        let seen = teacher.forward(scope, images)?;
        let answers = student.forward(scope, &seen.inputs)?;
        let fresh = answers.distance(&seen, OBJECTIVE.temperature)?;
        let (apart, looks) = (answers.adversarial_distance(&seen, OBJECTIVE.temperature)?, seen.prior()?);
        scope.descend(student, (stored.loss + fresh) * 0.5, Optimiser::ADAM, phase.rate.clone());
        scope.descend(&generator, looks - apart, Optimiser::ADAM, phase.rate);
        scope.watch(stored.loss);
        scope.term("fresh", fresh);
        scope.term("looks", looks);
        Ok(())
    })
}
