//! The limits of the hard checks, each with its reason.

/// Steps around a rounding tie within which either integer is correct. Runtimes add float sums in different orders, and
/// integer kernels multiply exact sums by a rounded factor: some roundings of float32 (2^-24 of the number each) on
/// numbers of up to 2^9 steps, and on summands some times as large.
pub const TIE_STEPS: f64 = 1.0 / 1024.0;
/// The same relative to the number, for grids of more than 10 bits.
pub const TIE_RELATIVE: f64 = 1.0 / 1_048_576.0;
/// Where [`TIE_STEPS`] do not suffice: the tolerated multiple of the largest difference between both runtimes in the
/// same tensor of the float model. That difference comes from a few samples, so it is not a bound.
pub const FLOAT_NOISE: f64 = 4.0;
/// The tolerated share of a quantizer's integers that differ without a tie.
pub const UNEXPLAINED_INTEGERS: f64 = 0.0;
/// The same where scales are computed when the model runs, or a decision (Hardmax, Floor, TopK...) precedes the
/// quantizer, so ties are unknown: runtimes add float sums in different orders, and a sum within an ulp of a tie may
/// round either way.
pub const DIFFERING_INTEGERS: f64 = 0.001;
/// Steps by which such an integer may differ: a tie has two neighbors; two steps are an error of arithmetic.
pub const LARGEST_STEP: i64 = 1;
/// Relative RMS between runtimes of float outputs that are computed from the same integers: float arithmetic alone.
pub const SAME_INTEGERS_RELATIVE_RMS: f64 = 0.001;
/// The same for the float model, end to end, for a runtime to vote: float arithmetic through all layers.
pub const SAME_FLOAT_RELATIVE_RMS: f64 = 0.001;
/// The smallest significant magnitude of functions with results up to 1: the resolution of 8 bits. Float kernels of
/// Sigmoid and similar operators are accurate to some ulps of 1 (tract's to 5e-7), and [`SAME_INTEGERS_RELATIVE_RMS`]
/// of this is 4e-6.
pub const SMALLEST_OF_BOUNDED: f64 = 1.0 / 256.0;
/// Relative RMS between runtimes of the median sample, end to end, with all grids at 8 bits and without a node-by-node
/// comparison (with one, it is only reported). A tie that rounds the other way moves all later values by part of a
/// small step. Trained networks stay below 2 % except for few samples; one of 17 wide random layers reaches 2 % while
/// its integers agree node by node. Outliers do not move the median.
pub const RELATIVE_RMS_8_BITS: f64 = 0.05;
/// The same where activations are signed with zero point 0: after a Relu the half below 0 is unused, so a step is
/// twice as large, and a MobileNet of 28 layers moves by 7 %.
pub const RELATIVE_RMS_SYMMETRIC: f64 = 0.10;
/// The same with a grid below 7 bits, where one step is a sixteenth of the range or more: on a ResNet-20 at 4 bits two
/// images in a hundred move by a step between the modes of one runtime.
pub const RELATIVE_RMS_LOW_BITS: f64 = 0.10;
/// The fewest bits that count as 8: a reduced range (7 bits) prevents saturation.
pub const BITS_OF_8_BIT_GRIDS: u32 = 7;
/// The top-1 agreement that runtimes must reach, near ties excluded (see [`explained_margin`]).
pub const TOP1_BETWEEN_RUNTIMES: f64 = 0.99;
/// Images that may always disagree, whatever their number: one in eight is not a rate. The relative RMS detects a model
/// that is wrong everywhere.
pub const DISAGREEMENTS_ALWAYS: usize = 1;
/// Integers of the node-by-node comparison, and its fewest samples: an error in one of a hundred thousand integers
/// shows in four million. End to end, all samples run.
pub const NODE_BY_NODE_INTEGERS: usize = 4 << 20;
/// See [`NODE_BY_NODE_INTEGERS`].
pub const NODE_BY_NODE_SAMPLES: usize = 4;
/// The default samples of checks: as many as cost [`DEFAULT_MACS`] in one run of the model.
pub const DEFAULT_SAMPLES: std::ops::RangeInclusive<usize> = 8..=64;
/// See [`DEFAULT_SAMPLES`].
pub const DEFAULT_MACS: u64 = 2_000_000_000;

/// Returns the default samples for a model with this many multiply-accumulates per sample.
pub fn default_samples(macs: u64) -> usize {
    let affordable = usize::try_from(DEFAULT_MACS / macs.max(1)).unwrap_or(usize::MAX);
    affordable.clamp(*DEFAULT_SAMPLES.start(), *DEFAULT_SAMPLES.end())
}

/// Returns the limit on relative RMS between runtimes for a model whose coarsest grid has `lowest_bits` bits, and whose
/// activations are signed with zero point 0 or not.
pub fn relative_rms(lowest_bits: u32, symmetric: bool) -> f64 {
    match (lowest_bits >= BITS_OF_8_BIT_GRIDS, symmetric) {
        (true, false) => RELATIVE_RMS_8_BITS,
        (true, true) => RELATIVE_RMS_SYMMETRIC,
        (false, _) => RELATIVE_RMS_LOW_BITS,
    }
}

/// Returns the margin between two classes below which rounding explains a different top class.
///
/// An error of relative RMS `limit` is allowed. Where it is spread evenly over the scores, the difference of two scores
/// moves by `sqrt(2) * limit * rms` (one standard deviation); two of them are tolerated. A disagreement at a larger
/// margin means that the error concentrates on the decisive scores, which the relative RMS would not show.
pub fn explained_margin(limit: f64, reference_rms: f64) -> f64 {
    2.0 * std::f64::consts::SQRT_2 * limit * reference_rms
}

/// Returns the distance from a rounding tie, in steps, within which either integer is correct for a value of this many
/// steps.
pub fn tie_steps(steps: f64) -> f64 {
    TIE_STEPS.max(TIE_RELATIVE * steps.abs())
}

/// Returns the share of integers that may differ off ties, where ties are known or not.
pub fn differing_integers(ties_are_known: bool) -> f64 {
    if ties_are_known { UNEXPLAINED_INTEGERS } else { DIFFERING_INTEGERS }
}

/// Returns the number of `count` integers that may differ at the share `limit`.
pub fn allowed(count: usize, limit: f64) -> usize {
    (count as f64 * limit) as usize
}

/// Returns the number of `images` that may disagree by more than [`explained_margin`].
pub fn disagreements(images: usize) -> usize {
    ((images as f64 * (1.0 - TOP1_BETWEEN_RUNTIMES) + 1e-9) as usize).max(DISAGREEMENTS_ALWAYS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_hold_for_large_samples_and_floors_for_small_ones() {
        assert_eq!([8, 100, 500, 1000].map(disagreements), [1, 1, 5, 10]);
        assert_eq!([10, 3000, 10_000].map(|n| allowed(n, DIFFERING_INTEGERS)), [0, 3, 10]);
        assert_eq!([0.0, 300.0, 65_536.0].map(tie_steps), [TIE_STEPS, TIE_STEPS, 0.0625]);
        assert_eq!([4, 6, 7, 8, 16].map(|bits| relative_rms(bits, false)), [0.1, 0.1, 0.05, 0.05, 0.05]);
        assert_eq!([4, 8].map(|bits| relative_rms(bits, true)), [0.1, 0.1]);
    }
}
