//! Priors on synthetic images, and their effect on a teacher.

use crate::expr::Expr;

/// Returns the mean of `|x[i+1] - x[i]|` over both directions of `images: [N, C, H, W]`: low where images are smooth
/// (anisotropic total variation; Rudin et al. 1992, Yin et al. 2020 for synthetic images).
#[track_caller]
pub fn total_variation(images: Expr) -> Expr {
    let [_, _, height, width] = images.dims();
    let along = |axis: usize, size: usize| {
        (images.slice(axis, 1..size) - images.slice(axis, 0..size - 1)).abs().mean(&[], false)
    };
    match (height > 1, width > 1) {
        (true, true) => along(2, height) + along(3, width),
        (true, false) => along(2, height),
        (false, true) => along(3, width),
        (false, false) => images.abs().sum(&[], false) * 0.0,
    }
}

/// Returns the distance of each image from mean 0 and standard deviation 1: the mean over images and channels of
/// `μ² + (σ - 1)²`, for `images: [N, C, H, W]` in units of the network's input (Li et al. 2023, Genie; Cai et al. 2020,
/// ZeroQ).
#[track_caller]
pub fn image_statistics(images: Expr) -> Expr {
    let [batch, channels, height, width] = images.dims();
    let (mean, variance) = images.reshape(&[1, batch * channels, height, width]).channel_moments();
    (mean.square() + ((variance + 1e-6).sqrt() - 1.0).square()).mean(&[], false)
}

/// Returns `-mean |f|` of a teacher's features: low where images activate it strongly (Chen et al. 2019, equation 4).
#[track_caller]
pub fn activation_norm(features: Expr) -> Expr {
    -features.abs().mean(&[], false)
}
