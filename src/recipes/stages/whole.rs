//! The common part of stages that train the whole network: a distillation, its step, and its result.

use super::blocks_of;
use crate::error::Result;
use crate::expr::Lowering;
use crate::ir::Tensor;
use crate::recipes::training::{Planned, Training};
use crate::solution::Solved;
use crate::train::{Distillation, Objective, Schedule, StageReport, Student, TrainingStep, fitting_batch, read_out};

/// The default batch size: twice the batch for half the steps measured worse.
const BATCH: usize = 32;
/// A loss term on raw logits measured worse than the class probabilities alone, and so did lower temperatures.
pub(super) const OBJECTIVE: Objective = Objective { temperature: 4.0, logits: 0.0, features: 1.0 };

/// A stage that trains the whole network.
pub(super) struct Whole<'a> {
    /// The name of the stage.
    pub name: &'static str,
    /// The default number of steps.
    pub steps: u64,
    /// How far a step moves a weight, in units of its scale.
    pub learning_rate: f64,
    /// The student and its teacher.
    pub distillation: &'a Distillation,
    /// Returns the training step for a batch size.
    pub step: &'a dyn Fn(usize, &Lowering) -> Result<TrainingStep>,
    /// Separates its batches from those of other stages.
    pub draw: u64,
    /// Returns the feeds of a step before the inputs, for a batch size and a step number.
    pub feeds: &'a dyn Fn(usize, u64) -> Vec<Tensor>,
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

impl Whole<'_> {
    /// Runs all steps from `solved`, and stores the result there.
    pub(super) fn train(&self, solved: &mut Solved, training: &mut Training) -> Result<StageReport> {
        let &Self { name, distillation, step: build, feeds, .. } = self;
        let settings = training.run.settings;
        let lowering = training.context.engine.lowering();
        let usual = BATCH.min(training.samples());
        let (step, batch) = fitting_batch(distillation.teacher(), settings, usual, &|batch| build(batch, &lowering))?;
        training.save_graph(name, |lowering| build(batch, lowering))?;
        let steps = settings.steps.unwrap_or(self.steps);
        let planned = Planned {
            name: name.to_owned(),
            batch,
            steps,
            learning_rate: settings.learning_rate.unwrap_or(self.learning_rate),
            schedule: Schedule::Cosine { steps, floor: 0.0, warmup: 0 },
            until: training.until(1),
        };
        let mut deal = training.batches(batch, self.draw)?;
        let mut feed = |step| Ok([feeds(batch, step), deal(step)?].concat());
        let key = format!("{:?}", distillation.objective);
        let (state, descent) = training.descend(&planned, &step, (solved, &key), &mut feed)?;
        if descent.steps > 0 {
            let vectors = [state[step.place("weights")?].clone(), state[step.place("scales")?].clone()];
            solved.apply_trained(read_out(distillation.student(), training.context.engine, &vectors)?)?;
        }
        let blocked = distillation.targets().blocked.clone();
        let report = training.report(name, training.samples());
        Ok(StageReport { blocked, descents: vec![descent], ..report })
    }
}
