//! Batch normalization, composed of moments so that gradients also pass through the batch statistics.

use super::Expr;
use super::own::{CHANNEL_AFFINE, CHANNEL_MOMENTS};

/// A batch normalized by its own statistics.
#[derive(Clone, Copy, Debug)]
pub struct BatchNormalised<'b> {
    /// `(x - mean)·scale/√(variance + ε) + bias`, in the shape of x.
    pub y: Expr<'b>,
    /// The mean of each channel, `[C]`.
    pub mean: Expr<'b>,
    /// The biased variance of each channel (over N·H·W elements, not one less), `[C]`.
    pub variance: Expr<'b>,
}

impl<'b> Expr<'b> {
    /// Returns the mean and the biased variance of each channel of `[N, C, …]`, both `[C]`.
    #[track_caller]
    pub fn channel_moments(self) -> (Self, Self) {
        let moments = self.builder.own(CHANNEL_MOMENTS, &[self], [], 2);
        (moments[0], moments[1])
    }

    /// Returns `a·x + b` of a tensor `[N, C, …]` with `a` and `b` per channel, both `[C]`.
    #[track_caller]
    pub fn channel_affine(self, a: Self, b: Self) -> Self {
        self.builder.own(CHANNEL_AFFINE, &[self, a, b], [], 1)[0]
    }

    /// Returns this batch `[N, C, …]` after BatchNormalization in training mode; `scale` and `bias` are `[C]`. Running
    /// averages are left to the caller.
    #[track_caller]
    pub fn batch_norm(self, scale: Self, bias: Self, epsilon: f32) -> BatchNormalised<'b> {
        let shape = self.shape();
        if shape.len() < 2 {
            let y = self.fail("batch_norm", format!("expected a batch of channels, found the shape {shape:?}"));
            return BatchNormalised { y, mean: y, variance: y };
        }
        let (mean, variance) = self.channel_moments();
        let gain = scale / (variance + epsilon).sqrt();
        let y = self.channel_affine(gain, bias - mean * gain);
        BatchNormalised { y, mean, variance }
    }
}
