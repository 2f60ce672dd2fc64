//! Whether a stage did good, by inputs that it did not see.

use serde::Serialize;

use super::whole::OBJECTIVE;
use crate::data::argmax;
use crate::error::Result;
use crate::ir::Tensor;
use crate::recipes::Solved;
use crate::recipes::training::Training;
use crate::runtime::SessionOptions;
use crate::train::{Distillation, Pool, Student};

/// How often the held-out inputs are gone through, varied anew each time.
const ROUNDS: u64 = 4;
/// Inputs at a time.
const BATCH: usize = 32;
/// Keeps the numbers that are drawn here apart from those of training.
const CHANCE: u64 = 0x6865_6c64_6f75;

/// A student on inputs that were held out, before and after a stage. Nothing of it is accuracy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HeldOut {
    /// Inputs, every variation counted.
    pub images: usize,
    /// How far the student is from the float network, before and after: 0 for equal.
    pub distance: [f32; 2],
    /// The share of inputs to which student and float network give the same class, before and after; none without class
    /// scores.
    pub agreement: Option<[f32; 2]>,
    /// Whether what the stage made was kept: where the distance became smaller.
    pub is_kept: bool,
}

impl HeldOut {
    /// Returns how the student was `before` and is `after` a stage.
    pub(super) fn compare(before: &Measured, after: &Measured) -> Self {
        Self {
            images: before.images,
            distance: [before.distance, after.distance],
            agreement: before.agreement.zip(after.agreement).map(|(before, after)| [before, after]),
            is_kept: after.distance < before.distance,
        }
    }
}

/// A student on held-out inputs at one moment.
pub(super) struct Measured {
    images: usize,
    distance: f32,
    agreement: Option<f32>,
}

impl Measured {
    /// Returns how what was `solved` does on the inputs that `training` holds out.
    ///
    /// # Errors
    /// When the engine fails.
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn of(solved: &Solved, training: &Training) -> Result<Self> {
        let inputs = training.images().held_out()?;
        let student = Student::new(&solved.student, &solved.plan, &solved.solution)?;
        let start = student.start();
        let mut distillation = Distillation::new(training.float, student)?;
        // At a temperature of 1 a few images of which the teacher is all but certain would decide.
        distillation.objective.temperature = OBJECTIVE.temperature;
        let samples = Tensor::samples_of(&inputs);
        let batch = distillation.teacher().fixed_batch().unwrap_or(BATCH).min(samples).max(1);
        let mut session = training.teacher.engine.load(&distillation.answers(batch)?, &SessionOptions::default())?;
        let pool = Pool::new(inputs, batch, training.teacher.seed, CHANCE)?.varied();
        let rounds = ROUNDS * u64::try_from(samples.div_ceil(batch)).unwrap_or(1);
        let (mut distance, mut agreed, mut counted) = (0.0, 0, 0);
        for round in 0..rounds {
            let made = session.run(&[start.to_vec(), pool.batch(round)?].concat())?;
            distance += made[0].to_f32()?.first().copied().unwrap_or(f32::NAN) / rounds as f32;
            for pair in made[1..].chunks_exact(2) {
                let classes = pair[0].shape().get(1).copied().unwrap_or(1);
                let [teacher, student] = [pair[0].to_f32()?, pair[1].to_f32()?];
                let pairs = teacher.chunks(classes).zip(student.chunks(classes));
                agreed += pairs.filter(|(teacher, student)| argmax(teacher) == argmax(student)).count();
                counted += batch;
            }
        }
        let agreement = (counted > 0).then(|| agreed as f32 / counted as f32);
        Ok(Self { images: batch * usize::try_from(rounds).unwrap_or(0), distance, agreement })
    }
}
