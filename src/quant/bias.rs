//! Biases as int32 with scale `x·w`, and the guard against their overflow.

/// A bias on the int32 grid that integer kernels add to their accumulator.
#[derive(Clone, Debug, PartialEq)]
pub struct GuardedBias {
    /// Integers, one per output channel.
    pub integers: Vec<i32>,
    /// `input_scale · weight_scale`, one per output channel or one in all.
    pub scale: Vec<f32>,
    /// Weight scales, some of them enlarged so that the bias fits; equal to the given ones where none was.
    pub weight_scale: Vec<f32>,
}

/// The largest bias: half of the int32 range is reserved for the sum of products.
const LIMIT: f64 = (1u32 << 30) as f64;

/// Returns `bias` with scale `input_scale · weight_scale[c]`, enlarging weight scales whose bias would overflow, or
/// whose product with the input's would be no normal number.
///
/// Near-dead channels have tiny weights beside an ordinary bias, so `bias / (x·w)` can leave int32.
pub fn quantize_bias(bias: &[f32], input_scale: f32, weight_scale: &[f32]) -> GuardedBias {
    let one = weight_scale.len() == 1;
    let mut guarded = weight_scale.to_vec();
    for (i, &b) in bias.iter().enumerate() {
        let scale = &mut guarded[if one { 0 } else { i }];
        let needed = f64::from(b).abs() / LIMIT;
        let needed = needed.max(f64::from(f32::MIN_POSITIVE)) / f64::from(input_scale);
        if needed > f64::from(*scale) {
            let enlarged = needed as f32;
            *scale = if enlarged * input_scale < f32::MIN_POSITIVE { enlarged.next_up() } else { enlarged };
        }
    }
    let scale: Vec<f32> = guarded.iter().map(|&w| input_scale * w).collect();
    let integer =
        |(i, &b): (usize, &f32)| (f64::from(b) / f64::from(scale[if one { 0 } else { i }])).round_ties_even() as i32;
    GuardedBias { integers: bias.iter().enumerate().map(integer).collect(), scale, weight_scale: guarded }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overflowing_bias_enlarges_only_its_own_channel() {
        let guarded = quantize_bias(&[1.0, 1.0], 0.1, &[0.5, 1e-10]);
        assert_eq!(guarded.weight_scale[0], 0.5);
        assert_eq!(guarded.integers[0], 20);
        assert!(guarded.weight_scale[1] > 1e-10);
        let back = f64::from(guarded.integers[1]) * f64::from(guarded.scale[1]);
        assert!((back - 1.0).abs() < 1e-6, "{back}");
    }
}
