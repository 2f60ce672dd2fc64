//! Whether a stage of training did good, by images that it did not see.

use serde::Serialize;

use super::{Solved, Training};
use crate::error::Result;
use crate::ir::Tensor;
use crate::runtime::SessionOptions;
use crate::train::{Distillation, Student};

/// A student on images that were held out, before and after a stage. Nothing of it is accuracy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HeldOut {
    /// Images.
    pub images: usize,
    /// How far the student is from the float network: 0 for equal.
    pub before: f32,
    /// The same after the stage.
    pub after: f32,
    /// Whether what the stage made was kept.
    pub is_kept: bool,
}

impl HeldOut {
    /// Returns how the student was `before` and is `after` a stage on `images`, of which it saw none.
    ///
    /// # Errors
    /// When the engine fails.
    pub fn compare((before, after): (&Solved, &Solved), training: &Training, images: &[Tensor]) -> Result<Self> {
        let distance = |solved: &Solved| distance(solved, training, images);
        let (before, after) = (distance(before)?, distance(after)?);
        let count = images.first().and_then(|tensor| tensor.shape().first()).copied().unwrap_or(0);
        Ok(Self { images: count, before, after, is_kept: after < before })
    }
}

fn distance(solved: &Solved, training: &Training, images: &[Tensor]) -> Result<f32> {
    let student = Student::new(&solved.student, &solved.plan, &solved.solution)?;
    let [weights, scales] = student.start();
    let distillation = Distillation::new(training.float, student)?;
    let samples = images.first().and_then(|tensor| tensor.shape().first()).copied().unwrap_or(0);
    let batch = distillation.teacher().fixed_batch().unwrap_or(samples).min(samples).max(1);
    let graph = distillation.loss_graph(batch)?;
    let mut session = training.teacher.engine.load(&graph, &SessionOptions::default())?;
    let (mut sum, mut count) = (0.0, 0.0f32);
    for start in (0..samples - samples % batch).step_by(batch) {
        let rows = images.iter().map(|tensor| tensor.rows(start..start + batch)).collect::<Result<Vec<_>>>()?;
        let found = session.run(&[vec![weights.clone(), scales.clone()], rows].concat())?;
        sum += found[0].to_f32()?.first().copied().unwrap_or(f32::NAN);
        count += 1.0;
    }
    Ok(sum / count)
}
