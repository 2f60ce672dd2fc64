//! Distances between the tensors of a student and of its teacher.

use super::{log_softmax, small};
use crate::expr::Expr;

/// The least variance of a channel, as a fraction of the mean variance of all channels.
const LEAST_VARIANCE: f32 = 1e-3;

/// Returns `T² · Σ p (log p - log q)` with `p = softmax(teacher / T)` and `q = softmax(student / T)`, summed over
/// classes and averaged over the batch (Hinton et al. 2015, section 2; with the teacher's entropy, so that 0 means
/// equality).
///
/// `teacher`, `student`: logits `[N, classes]`. No gradient passes the teacher.
#[track_caller]
pub fn kl_logits<'b>(teacher: Expr<'b>, student: Expr<'b>, temperature: f32) -> Expr<'b> {
    divergence(teacher.stop_gradient(), student, temperature)
}

/// Returns [`kl_logits`] with gradients through the teacher too.
#[track_caller]
pub fn divergence<'b>(teacher: Expr<'b>, student: Expr<'b>, temperature: f32) -> Expr<'b> {
    let [batch, _] = teacher.dims();
    let logits = |e: Expr<'b>| log_softmax(e * (1.0 / temperature));
    let p = logits(teacher);
    let divergence = (p.exp() * (p - logits(student))).sum(&[], false);
    divergence * (temperature * temperature / small(batch))
}

/// Returns the squared error of `student` against `teacher` `[N, C, ...]` over the variance of the teacher's channel,
/// averaged over channels: 0 for equality, 1 for a student that predicts the channel means. Where a channel holds one
/// value, as in `[1, C]`, the variance is taken across channels. No gradient passes the teacher.
///
/// The following layers may amplify a channel of small values; Li et al. 2021 (BRECQ, equation 10) weight errors by
/// squared gradients for this reason.
#[track_caller]
pub fn channel_normalized_mse<'b>(student: Expr<'b>, teacher: Expr<'b>) -> Expr<'b> {
    let teacher = teacher.stop_gradient();
    let rest: Vec<usize> = (0..teacher.shape().len()).filter(|&axis| axis != 1).collect();
    let is_single = rest.iter().all(|&axis| teacher.shape()[axis] == 1);
    if is_single {
        let varies = (teacher - teacher.mean(&[], false)).square().mean(&[], false);
        return (student - teacher).square().mean(&[], false) / at_least_some(varies);
    }
    let variance = (teacher - teacher.mean(&rest, true)).square().mean(&rest, true);
    let least = variance.mean(&[], false) * LEAST_VARIANCE;
    ((student - teacher).square().mean(&rest, true) / at_least_some(variance + least)).mean(&[], false)
}

/// Returns `Σ 1 - |2h - 1|^β` over `h` between 0 and 1: low where each `h` is close to 0 or 1 (Nagel et al. 2020,
/// AdaRound, equation 24). `exponent` is a scalar.
#[track_caller]
pub fn rounding_regularizer<'b>(shares: Expr<'b>, exponent: Expr<'b>) -> Expr<'b> {
    // The logarithm needs a positive argument; 1e-6 to a power of 2 or more vanishes in float32.
    let distance = (shares * 2.0 - 1.0).abs() + 1e-6;
    (1.0 - (distance.log() * exponent).exp()).sum(&[], false)
}

/// Returns `Σ (student - teacher)² / Σ teacher²`; no gradient passes the teacher.
#[track_caller]
pub fn relative_mse<'b>(teacher: Expr<'b>, student: Expr<'b>) -> Expr<'b> {
    relative_mse_of_both(teacher.stop_gradient(), student)
}

/// Returns [`relative_mse`] with gradients through the teacher's difference from the student too. `Σ teacher²` passes
/// no gradient, so that the loss cannot be changed by shrinking the teacher's values.
#[track_caller]
pub fn relative_mse_of_both<'b>(teacher: Expr<'b>, student: Expr<'b>) -> Expr<'b> {
    let energy = teacher.stop_gradient().square().sum(&[], false);
    (student - teacher).square().sum(&[], false) / at_least_some(energy)
}

/// Returns a positive divisor of errors, even where the teacher is constant.
fn at_least_some(energy: Expr<'_>) -> Expr<'_> {
    energy.max(energy.builder().scalar(f32::MIN_POSITIVE))
}
