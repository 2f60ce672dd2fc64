//! Judges a stage on held-out inputs.
//!
//! Two conditions must hold. On held-out inputs of the training kind, the outputs must come closer to the float
//! network's. And on images of other kinds (see [`probes`]), the input of the last layer must do so on average: the
//! last layers can learn to compensate for the errors of earlier layers on the training images, which does not
//! generalize to other images.

use std::ops::Range;

use super::whole::OBJECTIVE;
use crate::data::{CenteredNoise, argmax};
use crate::error::Result;
use crate::ir::Tensor;
use crate::lab::Lab;
use crate::runtime::{Session, SessionOptions};
use crate::solution::Solved;
use crate::train::{BatchSampler, Distillation, HeldOut, OtherKind, Student, probes};

/// Passes over the held-out inputs, each with new augmentation.
const ROUNDS: u64 = 4;
/// Inputs per batch.
const BATCH: usize = 32;
/// Separates the random numbers of this check from those of lab.
const CHANCE: u64 = 0x6865_6c64_6f75;

/// Returns the comparison of the student `before` and `after` a stage.
pub(super) fn compare(before: &Measured, after: &Measured) -> HeldOut {
    let pairs = before.features.iter().zip(&after.features);
    let other_kinds: Vec<OtherKind> =
        pairs.map(|(&(kind, before), &(_, after))| OtherKind { kind, sqnr_db: [before, after] }).collect();
    let gain: f64 = other_kinds.iter().map(|OtherKind { sqnr_db: [before, after], .. }| after - before).sum();
    HeldOut {
        images: before.images,
        distance: [before.distance, after.distance],
        agreement: before.agreement.zip(after.agreement).map(|(before, after)| [before, after]),
        is_kept: after.distance < before.distance && (other_kinds.is_empty() || gain > 0.0),
        other_kinds,
    }
}

/// The measurements of a student on held-out inputs.
pub(super) struct Measured {
    images: usize,
    distance: f32,
    agreement: Option<f32>,
    /// Centered SQNR of the last features by kind of image, in dB.
    features: Vec<(&'static str, f64)>,
}

impl Measured {
    /// Returns the measurements of `solved` on the held-out inputs of `training`.
    ///
    /// # Errors
    /// When the engine fails.
    pub(super) fn of(solved: &Solved, lab: &Lab) -> Result<Self> {
        let inputs = lab.images().held_out()?;
        let student = Student::new(&solved.float, &solved.plan, &solved.solution)?;
        let start = student.start();
        let mut distillation = Distillation::new(lab.float, student)?;
        // At temperature 1, a few images with very confident predictions would dominate.
        distillation.objective.temperature = OBJECTIVE.temperature;
        let samples = Tensor::samples_of(&inputs);
        let batch = distillation.teacher().fixed_batch().unwrap_or(BATCH).min(samples).max(1);
        let mut session = lab.context.engine.load(&distillation.answers(batch)?, &SessionOptions::default())?;
        let pool = BatchSampler::new(inputs, batch, lab.context.seed, CHANCE)?.varied();
        let rounds = ROUNDS * u64::try_from(samples.div_ceil(batch)).unwrap_or(1);
        let logits = 2 * distillation.targets().tensors.iter().filter(|target| target.is_logits).count();
        let (mut distance, mut agreed, mut counted, mut outputs) = (0.0, 0, 0, 1 + logits);
        for round in 0..rounds {
            let made = session.run(&[start.to_vec(), pool.batch(round)?].concat())?;
            outputs = made.len();
            distance += made[0].to_f32()?.first().copied().unwrap_or(f32::NAN) / rounds as f32;
            for pair in made[1..=logits].chunks_exact(2) {
                let classes = pair[0].shape().get(1).copied().unwrap_or(1);
                let [teacher, student] = [pair[0].to_f32()?, pair[1].to_f32()?];
                let pairs = teacher.chunks(classes).zip(student.chunks(classes));
                agreed += pairs.filter(|(teacher, student)| argmax(teacher) == argmax(student)).count();
                counted += batch;
            }
        }
        let agreement = (counted > 0).then(|| agreed as f32 / counted as f32);
        let images = batch * usize::try_from(rounds).unwrap_or(0);
        let features = features(session.as_mut(), &start, 1 + logits..outputs, batch, lab)?;
        Ok(Self { images, distance, agreement, features })
    }
}

/// Returns the centered SQNR of the last features by kind of image, on `batch` images at a time; the mean where there
/// are several. The outputs of `session` at `places` are pairs of teacher and student features.
fn features(
    session: &mut dyn Session,
    start: &[Tensor],
    places: Range<usize>,
    batch: usize,
    lab: &Lab,
) -> Result<Vec<(&'static str, f64)>> {
    let (teacher, pairs) = (&lab.context, places.len() / 2);
    let mut found = Vec::new();
    for probe in probes(lab.float, teacher.input, teacher.seed, teacher.threads)? {
        let mut noise = vec![CenteredNoise::default(); pairs];
        for start_of in (0..=Tensor::samples_of(&probe.inputs).saturating_sub(batch)).step_by(batch) {
            let rows = probe.inputs.iter().map(|tensor| tensor.rows(start_of..start_of + batch));
            let made = session.run(&[start.to_vec(), rows.collect::<Result<_>>()?].concat())?;
            for (pair, noise) in made[places.clone()].chunks_exact(2).zip(&mut noise) {
                let [teacher, student] = [widened(&pair[0])?, widened(&pair[1])?];
                let width = (teacher.len() / batch).max(1);
                teacher.chunks(width).zip(student.chunks(width)).for_each(|(a, b)| noise.add(a, b));
            }
        }
        let ratios: Vec<f64> = noise.iter().filter_map(CenteredNoise::sqnr_db).collect();
        if !ratios.is_empty() {
            found.push((probe.kind, ratios.iter().sum::<f64>() / ratios.len() as f64));
        }
    }
    Ok(found)
}

fn widened(tensor: &Tensor) -> Result<Vec<f64>> {
    Ok(tensor.to_f32()?.into_iter().map(f64::from).collect())
}
