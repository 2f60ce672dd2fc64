//! Distances between what a student and its teacher compute.

use super::{log_softmax, small};
use crate::expr::Expr;

/// Returns `T² · Σ p (log p - log q)` with `p = softmax(teacher / T)` and `q = softmax(student / T)`, summed over classes
/// and averaged over the batch (Hinton et al. 2015, section 2; the teacher's entropy included, so that 0 is equality).
///
/// `teacher`, `student`: logits `[N, classes]`. No gradient passes the teacher.
#[track_caller]
pub fn kl_logits<'b>(teacher: Expr<'b>, student: Expr<'b>, temperature: f32) -> Expr<'b> {
    let [batch, _] = teacher.dims();
    let logits = |e: Expr<'b>| log_softmax(e * (1.0 / temperature));
    let p = logits(teacher.stop_gradient());
    let divergence = (p.exp() * (p - logits(student))).sum(&[], false);
    divergence * (temperature * temperature / small(batch))
}

/// Returns `Σ (student - teacher)² / Σ teacher²`; no gradient passes the teacher.
#[track_caller]
pub fn relative_square<'b>(teacher: Expr<'b>, student: Expr<'b>) -> Expr<'b> {
    let teacher = teacher.stop_gradient();
    let energy = teacher.square().sum(&[], false).max(teacher.builder().scalar(f32::MIN_POSITIVE));
    (student - teacher).square().sum(&[], false) / energy
}
