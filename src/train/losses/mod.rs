//! Losses as scalar expressions to minimize. Each one documents what it compares and why.

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

/// Returns `x - log Σ exp x` of `x: [N, classes]`. tract computes LogSoftmax as the logarithm of a Softmax, which is
/// log 0 for a class of very small probability (seen in 0.23.9).
#[track_caller]
fn log_softmax(x: Expr) -> Expr {
    let x = x - x.stop_gradient().largest(&[1], true);
    x - x.exp().sum(&[1], true).log()
}

pub(super) fn small(n: usize) -> f32 {
    n as f32
}
