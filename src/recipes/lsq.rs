//! `lsq`: weights, biases and quantizer steps of the whole network trained against the float network on synthetic inputs,
//! from what `fast` found.

use super::fast::fast;
use super::training::{Stage, Training, TrainingReport};
use super::{Recipe, Solved};
use crate::error::Result;
use crate::train::{Distillation, Schedule, Student, fitting_batch};

pub(super) const RECIPE: Recipe = Recipe {
    name: "lsq",
    summary: "trains weights, biases and quantizer steps until the network computes what the float one does",
    citation: "steps after Esser et al. 2020 (LSQ), distillation after Hinton et al. 2015; starts from fast",
    run: fast,
    train: Some(lsq),
    wants_images: false,
};

const STEPS: u64 = 400;
const BATCH: usize = 64;
/// In quantization steps.
const LEARNING_RATE: f64 = 0.01;
/// Synthetic inputs that batches are picked from.
const SAMPLES: usize = 1024;

fn lsq(solved: &mut Solved, training: &mut Training) -> Result<TrainingReport> {
    let student = Student::new(&solved.student, &solved.plan, &solved.solution)?;
    let distillation = Distillation::new(training.float, student)?;
    let lowering = training.teacher.engine.lowering();
    let build = |batch| distillation.step(batch, &lowering);
    let (step, batch) = fitting_batch(distillation.teacher(), training.run.settings, BATCH, &build)?;
    training.save_graph(RECIPE.name, |lowering| distillation.step(batch, lowering))?;
    let steps = training.run.settings.steps.unwrap_or(STEPS);
    let stage = Stage {
        name: RECIPE.name,
        steps,
        batch,
        samples: SAMPLES,
        learning_rate: training.run.settings.learning_rate.unwrap_or(LEARNING_RATE),
        schedule: Schedule::Cosine { steps, floor: 0.0, warmup: 0 },
        varies: false,
    };
    let (made, report) = training.descend(&stage, &step, solved)?;
    training.settle(solved, distillation.student(), &made)?;
    Ok(TrainingReport { blocked: distillation.targets().blocked.clone(), ..report })
}
