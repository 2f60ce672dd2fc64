//! What stages have in common that train the whole network: a distillation, its step, and what becomes of it.

use super::blocks_of;
use crate::error::Result;
use crate::expr::Lowering;
use crate::ir::Tensor;
use crate::recipes::training::{Planned, Training};
use crate::sensitivity::{Part, partly_quantized};
use crate::solution::Solved;
use crate::train::{Distillation, Objective, Schedule, StageReport, Student, TrainingStep, fitting_batch, read_out};

/// Inputs of a step where neither the user nor the model says: twice as many at half as many steps measured worse.
const BATCH: usize = 32;
/// Logits as such measured worse than their probabilities alone, and so did lower temperatures.
pub(super) const OBJECTIVE: Objective = Objective { temperature: 4.0, logits: 0.0, features: 1.0 };

/// A stage that trains the whole network.
pub(super) struct Whole<'a> {
    /// The name of the stage.
    pub name: &'static str,
    /// Steps where the user gives no number.
    pub steps: u64,
    /// How far a step moves a weight, in quantization steps.
    pub learning_rate: f64,
    /// The student and its teacher.
    pub distillation: &'a Distillation,
    /// Returns the step on a batch.
    pub step: &'a dyn Fn(usize, &Lowering) -> Result<TrainingStep>,
    /// Keeps its batches apart from those of other stages.
    pub draw: u64,
    /// Returns what is fed in a step before the inputs, of a batch and the step's number.
    pub feeds: &'a dyn Fn(usize, u64) -> Vec<Tensor>,
}

/// Returns the training of what was `solved` on the float network.
pub(super) fn distillation(solved: &Solved) -> Result<Distillation> {
    let student = Student::new(&solved.float, &solved.plan, &solved.solution)?;
    let float = partly_quantized(solved, &Part::of(&solved.plan, false))?;
    let blocks = blocks_of(&float, &student);
    let mut distillation = Distillation::new(&float, student)?;
    distillation.objective = OBJECTIVE;
    // What the last one makes is answered for.
    distillation.features = blocks.into_iter().rev().skip(1).map(|block| block.output).collect();
    Ok(distillation)
}

impl Whole<'_> {
    /// Makes all steps from what was `solved`, and puts what they came to there.
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
