//! Losses as expressions: single numbers to be descended. Each says what it compares, and what it is after.

mod classes;
mod distillation;
mod images;
mod statistics;

pub use classes::{argmax_one_hot, batch_entropy, cross_entropy, focal_cross_entropy, instance_entropy};
pub use distillation::{
    channel_normalized_mse, divergence, kl_logits, relative_mse, relative_mse_of_both, rounding_regularizer,
};
pub use images::{activation_norm, image_statistics, total_variation};
pub use statistics::{ChannelMoments, ChannelNormal, Distance, gaussian_divergence, moment_distance, moments_off};

use crate::expr::Expr;

/// Returns `x - log Σ exp x` of `x: [N, classes]`. tract takes the logarithm of a Softmax for LogSoftmax, which is that of 0
/// where a class is far behind (seen in 0.23.9).
#[track_caller]
fn log_softmax(x: Expr) -> Expr {
    let x = x - x.stop_gradient().largest(&[1], true);
    x - x.exp().sum(&[1], true).log()
}

pub(super) fn small(n: usize) -> f32 {
    n as f32
}
