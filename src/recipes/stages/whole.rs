//! The common part of stages that train the whole network: a distillation, its phase, and its result.

use super::blocks_of;
use crate::error::Result;
use crate::expr::Expr;
use crate::lab::{GamePlan, Lab, QuantizedStudent};
use crate::solution::Solved;
use crate::train::{Distillation, LearningRate, Objective, PhaseSpec, Scope, StageReport, Student, Turn};

/// A loss term on raw logits measured worse than the class probabilities alone, and so did lower temperatures.
pub(super) const OBJECTIVE: Objective = Objective { temperature: 4.0, logits: 0.0, features: 1.0 };

/// A stage that trains the whole network on training inputs.
pub(super) struct Whole {
    /// The name of the stage.
    pub name: &'static str,
    /// The default number of steps.
    pub steps: u64,
    /// How far a step moves a weight, in units of its scale.
    pub learning_rate: f64,
    /// Separates its random numbers from those of other stages.
    pub stage: u64,
}

/// The phase of a stage that trains the whole network.
pub(super) struct WholePhase<'a, 'b> {
    pub scope: &'a Scope<'b>,
    /// The network's inputs: a batch of training inputs.
    pub inputs: Vec<Expr<'b>>,
    pub student: &'a QuantizedStudent,
    pub rate: LearningRate,
}

/// Returns the distillation of `solved` from the float network.
pub(super) fn distillation(solved: &Solved) -> Result<Distillation> {
    let student = Student::new(&solved.float, &solved.plan, &solved.solution)?;
    let blocks = blocks_of(&solved.float, &student);
    let mut distillation = Distillation::new(&solved.float, student)?;
    distillation.objective = OBJECTIVE;
    // The output of the last block is compared already.
    distillation.features = blocks.into_iter().rev().skip(1).map(|block| block.output).collect();
    Ok(distillation)
}

impl Whole {
    /// Runs all steps of the phase that `build` describes, from `solved`, and stores the result there.
    pub(super) fn train(
        &self,
        distillation: &Distillation,
        solved: &mut Solved,
        lab: &mut Lab,
        build: impl for<'a, 'b> Fn(WholePhase<'a, 'b>) -> Result<()>,
    ) -> Result<StageReport> {
        let (steps, learning_rate) = (lab.steps(self.steps), lab.learning_rate(self.learning_rate));
        let rate = LearningRate::cosine(learning_rate, steps);
        let (student, batches) =
            (QuantizedStudent::new("student", distillation.student().clone()), lab.batches(self.stage));
        let phase = PhaseSpec::new("", |scope| {
            let inputs = batches.inputs(scope)?;
            build(WholePhase { scope, inputs, student: &student, rate: rate.clone() })
        });
        let plan = GamePlan {
            name: self.name,
            phases: vec![phase],
            turns: vec![Turn::of(0, 1)],
            rounds: steps,
            draws_batches: true,
            learning_rate,
            stage: self.stage,
            key: format!("{:?}", distillation.objective),
            ..GamePlan::default()
        };
        let blocked = distillation.targets().blocked.clone();
        Ok(StageReport { blocked, ..lab.train(&plan, std::slice::from_ref(&student), solved)? })
    }
}
