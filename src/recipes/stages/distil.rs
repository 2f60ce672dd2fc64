//! Distills the whole network from the outputs of the float network: weights, biases and scales.

use super::whole::{Whole, distillation};
use crate::error::Result;
use crate::lab::Lab;
use crate::recipes::TrainingBudget;
use crate::solution::Solved;
use crate::train::{Optimiser, StageReport};

pub(super) fn distil(budget: &TrainingBudget, solved: &mut Solved, lab: &mut Lab) -> Result<StageReport> {
    let distillation = distillation(solved)?;
    let whole = Whole { name: "distil", steps: budget.steps, learning_rate: 0.01, stage: 0 };
    whole.train(&distillation, solved, lab, |phase| {
        let compared = distillation.compared(&phase.inputs, phase.student.vectors_in(phase.scope))?;
        phase.scope.descend(phase.student, compared.loss, Optimiser::ADAM, phase.rate);
        compared.terms.into_iter().for_each(|(name, term)| phase.scope.term(name, term));
        Ok(())
    })
}
