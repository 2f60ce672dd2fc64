//! The distance between the channel statistics of a batch and the batch-normalization statistics of the training data.

use super::small;
use crate::expr::{Builder, Expr};
use crate::ir::Tensor;
use crate::stats::BatchNorm;

/// Channels whose standard deviation is below this fraction of the largest are dead and left out.
const DEAD: f64 = 1e-4;
/// Added to variances, in the units of the comparison: gives channels without variance a gradient too.
const LEAST_VARIANCE: f32 = 1e-6;

/// The target mean and standard deviation of each channel of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct ChannelNormal {
    /// The tensor's name in the network without batch normalization.
    pub tensor: String,
    /// Mean.
    pub mean: Vec<f32>,
    /// Standard deviation.
    pub std: Vec<f32>,
    /// The factor from the tensor's standard deviation to that before normalization; 0 for dead channels.
    pub before: Vec<f32>,
}

/// The units in which moments are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distance {
    /// Those of the tensor before normalization, which weight layers of large values more.
    BeforeNormalisation,
    /// The standard deviation of each channel.
    Deviations,
}

/// Mean and biased variance of each channel, `[C]`.
#[derive(Clone, Copy, Debug)]
pub struct ChannelMoments<'b> {
    /// Mean.
    pub mean: Expr<'b>,
    /// Variance.
    pub variance: Expr<'b>,
}

impl ChannelNormal {
    /// Returns the target statistics of `norm`'s output, which is the tensor that remains after folding.
    pub fn of(norm: &BatchNorm) -> Self {
        let stds = norm.std();
        let widest = stds.iter().copied().fold(0.0, f64::max);
        let (scale, _) = norm.affine();
        let lives = |i: usize| stds[i] > DEAD * widest && scale[i].is_normal();
        Self {
            tensor: norm.output.clone(),
            mean: norm.beta.clone(),
            std: stds.iter().map(|&d| d as f32).collect(),
            before: (0..scale.len()).map(|i| if lives(i) { (1.0 / scale[i].abs()) as f32 } else { 0.0 }).collect(),
        }
    }

    /// Returns the factors on the moments for a comparison in `distance`.
    fn units(&self, distance: Distance) -> Vec<f32> {
        match distance {
            Distance::BeforeNormalisation => self.before.clone(),
            Distance::Deviations => {
                let pairs = self.before.iter().zip(&self.std);
                pairs.map(|(&before, &std)| if before > 0.0 { 1.0 / std } else { 0.0 }).collect()
            }
        }
    }
}

/// Returns `(‖μ - μ̂‖² + ‖σ - σ̂‖²) / C` over the channels of a layer (Li et al. 2023, Genie, equation 2; Cai et al.
/// 2020, ZeroQ, equation 3), with standard deviations, not variances. Differences below `slack`, of means and of
/// standard deviations, cost nothing (Zhang et al. 2021, DSG, equations 5 and 6).
#[track_caller]
pub fn moment_distance<'b>(
    found: ChannelMoments<'b>,
    expected: &ChannelNormal,
    distance: Distance,
    slack: [f32; 2],
) -> Expr<'b> {
    let [mean, std] = moments_off(found, expected, distance);
    let beyond = |off: Expr<'b>, slack: f32| if slack > 0.0 { (off.abs() - slack).relu() } else { off };
    (beyond(mean, slack[0]).square() + beyond(std, slack[1]).square()).mean(&[], false)
}

/// Returns the differences of mean and standard deviation of each channel, `[C]` each.
#[track_caller]
pub fn moments_off<'b>(found: ChannelMoments<'b>, expected: &ChannelNormal, distance: Distance) -> [Expr<'b>; 2] {
    let builder = found.mean.builder();
    let units = expected.units(distance);
    let scaled = |values: &[f32]| -> Vec<f32> { values.iter().zip(&units).map(|(v, u)| v * u).collect() };
    let std = |d: &f32| (d * d + LEAST_VARIANCE).sqrt();
    let means = constant(builder, &scaled(&expected.mean));
    let stds = constant(builder, &scaled(&expected.std).iter().map(std).collect::<Vec<_>>());
    let units = constant(builder, &units);
    let spread = (found.variance * units.square() + LEAST_VARIANCE).sqrt();
    [found.mean * units - means, spread - stds]
}

/// Returns the mean over channels of `KL(N(μ, σ²) ‖ N(μ̂, σ̂²)) = ((μ-μ̂)² + σ²)/2σ̂² - log σ/σ̂ - 1/2` (Choi et al.
/// 2020, `L_BN`, which sums over channels).
#[track_caller]
pub fn gaussian_divergence<'b>(found: ChannelMoments<'b>, expected: &ChannelNormal) -> Expr<'b> {
    let builder = found.mean.builder();
    let units = expected.units(Distance::Deviations);
    let lives = constant(builder, &units.iter().map(|&u| f32::from(u8::from(u > 0.0))).collect::<Vec<_>>());
    let means: Vec<f32> = expected.mean.iter().zip(&units).map(|(m, u)| m * u).collect();
    let units = constant(builder, &units);
    let off = found.mean * units - constant(builder, &means);
    let ratio = found.variance * units.square() + LEAST_VARIANCE;
    let divergence = (off.square() + ratio - ratio.log() - 1.0) * 0.5;
    (divergence * lives).sum(&[], false) / small(expected.mean.len())
}

fn constant<'b>(builder: &'b Builder, values: &[f32]) -> Expr<'b> {
    builder.constant("statistics", Tensor::from_f32(&[values.len()], values))
}
