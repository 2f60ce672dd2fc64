//! `cascade`: images are made for the network, ranges and roundings found on them, and the whole network trained on them;
//! what was trained is kept only where it does better on images that were held out.

use super::fast::fast;
use super::held_out::HeldOut;
use super::training::{Stage, Training, TrainingReport};
use super::{Recipe, Solved};
use crate::error::{Error, Result};
use crate::ir::Tensor;
use crate::train::{Distillation, Schedule, Student, fitting_batch};

pub(super) const RECIPE: Recipe = Recipe {
    name: "cascade",
    summary: "makes images for the network, starts from fast on them and trains weights, biases and steps on them",
    citation: "images after Li et al. 2023 (Genie), steps after Esser et al. 2020 (LSQ), distillation after Hinton et al. 2015",
    run: fast,
    train: Some(cascade),
    wants_images: true,
};

const STEPS: u64 = 400;
const BATCH: usize = 64;
/// In quantization steps.
const LEARNING_RATE: f64 = 0.01;
/// Of the probabilities that are compared.
const TEMPERATURE: f32 = 4.0;
/// One of so many images is held out.
const HELD_OUT: usize = 8;

fn cascade(solved: &mut Solved, training: &mut Training) -> Result<TrainingReport> {
    let student = Student::new(&solved.student, &solved.plan, &solved.solution)?;
    let mut distillation = Distillation::new(training.float, student)?;
    distillation.temperature = TEMPERATURE;
    let lowering = training.teacher.engine.lowering();
    let build = |batch| distillation.step(batch, &lowering);
    let (step, batch) = fitting_batch(distillation.teacher(), training.run.settings, BATCH, &build)?;
    training.save_graph(RECIPE.name, |lowering| distillation.step(batch, lowering))?;
    let steps = training.run.settings.steps.unwrap_or(STEPS);
    let stage = Stage {
        name: RECIPE.name,
        steps,
        batch,
        samples: 0,
        learning_rate: training.run.settings.learning_rate.unwrap_or(LEARNING_RATE),
        schedule: Schedule::Cosine { steps, floor: 0.0, warmup: 0 },
        varies: true,
    };
    let (seen, held_out) = split(training.images.as_deref(), batch)?;
    training.images = seen;
    let before = solved.clone();
    let (made, report) = training.descend(&stage, &step, solved)?;
    training.settle(solved, distillation.student(), &made)?;
    let blocked = distillation.targets().blocked.clone();
    let held_out = match held_out.filter(|_| !training.run.dry_run) {
        None => None,
        Some(images) => {
            let found = HeldOut::compare((&before, solved), training, &images)?;
            if !found.is_kept {
                *solved = before;
            }
            Some(found)
        }
    };
    Ok(TrainingReport { blocked, held_out, ..report })
}

type Inputs = Vec<Tensor>;

/// Returns the images to train on, and those to judge by; nothing where none were made.
fn split(images: Option<&[Tensor]>, batch: usize) -> Result<(Option<Inputs>, Option<Inputs>)> {
    let Some(images) = images else { return Ok((None, None)) };
    let all = images.first().and_then(|tensor| tensor.shape().first()).copied().unwrap_or(0);
    let seen = all - all / HELD_OUT;
    if seen < batch || seen == all {
        let message = format!("{all} images are too few for steps of {batch}; make more, or give a smaller --batch");
        return Err(Error::Usage(message));
    }
    let part = |range: std::ops::Range<usize>| images.iter().map(|t| t.rows(range.clone())).collect::<Result<Inputs>>();
    Ok((Some(part(0..seen)?), Some(part(seen..all)?)))
}
