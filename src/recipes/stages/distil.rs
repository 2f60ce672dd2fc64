//! The whole network learns from what the float network answers: weights, biases and quantizer steps.

use super::StageReport;
use crate::error::Result;
use crate::ir::Tensor;
use crate::recipes::training::{Planned, Training};
use crate::recipes::{Effort, Solved};
use crate::runtime::Engine;
use crate::sensitivity::{Part, partly_quantized};
use crate::train::{
    Distillation, Objective, Schedule, Student, Trained, TrainingStep, blocks, fitting_batch, read_out, targets,
};

const NAME: &str = "distil";
const BATCH: usize = 64;
/// In quantization steps.
const LEARNING_RATE: f64 = 0.01;
/// Class scores as such measured worse than their probabilities alone.
const OBJECTIVE: Objective = Objective { temperature: 4.0, scores: 0.0, features: 1.0 };

/// Returns the training of what was `solved` on the float network.
pub(super) fn distillation(solved: &Solved) -> Result<Distillation> {
    let student = Student::new(&solved.student, &solved.plan, &solved.solution)?;
    let float = partly_quantized(solved, &Part::of(&solved.plan, false))?;
    let target = targets(&float).tensors.into_iter().next().and_then(|target| student.graph().find(&target.tensor));
    let blocks = target.map_or(Vec::new(), |target| blocks(student.graph(), target));
    let mut distillation = Distillation::new(&float, student)?;
    distillation.objective = OBJECTIVE;
    distillation.features = blocks.into_iter().rev().skip(1).map(|block| block.output).collect();
    Ok(distillation)
}

/// Returns what the state behind the steps of a distillation stands for.
pub(super) fn trained(
    distillation: &Distillation,
    step: &TrainingStep,
    state: &[Tensor],
    engine: &dyn Engine,
) -> Result<Trained> {
    let vectors = [state[step.place("weights")?].clone(), state[step.place("scales")?].clone()];
    read_out(distillation.student(), engine, &vectors)
}

pub(super) fn distil(effort: &Effort, solved: &mut Solved, training: &mut Training) -> Result<StageReport> {
    let distillation = distillation(solved)?;
    let settings = training.run.settings;
    let lowering = training.teacher.engine.lowering();
    let build = |batch| distillation.step(batch, &lowering);
    let (step, batch) = fitting_batch(distillation.teacher(), settings, BATCH, &build)?;
    training.save_graph(NAME, |lowering| distillation.step(batch, lowering))?;
    let steps = settings.steps.unwrap_or(effort.steps);
    let planned = Planned {
        name: NAME.to_owned(),
        batch,
        steps,
        learning_rate: settings.learning_rate.unwrap_or(LEARNING_RATE),
        schedule: Schedule::Cosine { steps, floor: 0.0, warmup: 0 },
        until: training.until(1),
    };
    let mut deal = training.dealer(batch)?;
    let key = format!("{OBJECTIVE:?}");
    let (state, report) = training.descend(&planned, &step, (solved, &key), &mut deal)?;
    if report.steps > 0 {
        solved.settle(trained(&distillation, &step, &state, training.teacher.engine)?)?;
    }
    let blocked = distillation.targets().blocked.clone();
    Ok(StageReport { blocked, descents: vec![report], ..StageReport::new(NAME, training.samples()) })
}
