//! The form of a quantizer ([`Scheme`]) and its scales and zero points ([`Grid`]).

use serde::{Deserialize, Serialize};

use crate::ir::DType;

/// The form of a quantizer, without scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Scheme {
    /// Bits of the integers, 2 to 8.
    pub bits: u32,
    /// Whether the integers are signed.
    pub signed: bool,
    /// Whether the zero point is fixed at 0.
    pub symmetric: bool,
    /// Whether the lowest integer is unused, as integer kernels and TensorRT require for symmetric 8-bit weights.
    pub narrow: bool,
    /// The axis with one scale per index; `None` for a single scale.
    pub axis: Option<usize>,
}

impl Scheme {
    /// Returns the affine unsigned per-tensor scheme of activations.
    pub fn activation(bits: u32) -> Self {
        Self { bits, signed: false, symmetric: false, narrow: false, axis: None }
    }

    /// Returns the symmetric signed per-tensor scheme of activations; QuantizeLinear saturates at the lowest integer.
    pub fn symmetric_activation(bits: u32) -> Self {
        Self { signed: true, symmetric: true, ..Self::activation(bits) }
    }

    /// Returns the scheme of weights: signed where symmetric, without -128 at 8 bits; narrower ones use all integers.
    pub fn weight(bits: u32, symmetric: bool, axis: Option<usize>) -> Self {
        Self { bits, signed: symmetric, symmetric, narrow: symmetric && bits == 8, axis }
    }

    /// Returns the smallest and largest integer.
    pub fn int_range(&self) -> (i32, i32) {
        let half = 1i32 << (self.bits - 1);
        match (self.signed, self.narrow) {
            (false, _) => (0, 2 * half - 1),
            (true, true) => (1 - half, half - 1),
            (true, false) => (-half, half - 1),
        }
    }

    /// Returns the 8-bit element type that holds the integers.
    pub fn byte_type(&self) -> DType {
        if self.signed { DType::I8 } else { DType::U8 }
    }

    /// Returns the narrowest element type for weights: 4-bit types at 4 bits and below, 8-bit ones above.
    pub fn packed_type(&self) -> DType {
        match (self.bits <= 4, self.signed) {
            (true, true) => DType::I4,
            (true, false) => DType::U4,
            (false, _) => self.byte_type(),
        }
    }
}

/// A quantizer: `x ≈ scale · (q - zero_point)`, one pair per index of the scheme's axis, or one in all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Grid {
    /// The form.
    pub scheme: Scheme,
    /// Positive and finite; `[1]` or one per channel.
    pub scale: Vec<f32>,
    /// Integers within the scheme's range; as many as scales.
    pub zero_point: Vec<i32>,
}

impl Grid {
    /// Returns scale and zero point for the interval `lo..=hi` widened to contain 0, so that 0 is represented exactly.
    ///
    /// An interval that holds nothing but 0 gets scale 1.
    pub fn of_range(scheme: &Scheme, lo: f32, hi: f32) -> (f32, i32) {
        let (lo, hi) = (f64::from(lo.min(0.0)), f64::from(hi.max(0.0)));
        let (q_min, q_max) = scheme.int_range();
        let (q_min, q_max) = (f64::from(q_min), f64::from(q_max));
        let scale = match scheme.symmetric {
            true if scheme.signed => (hi / q_max).max(lo / q_min) as f32,
            true => (hi / q_max) as f32,
            false => ((hi - lo) / (q_max - q_min)) as f32,
        };
        if !scale.is_normal() {
            return (1.0, if scheme.signed { 0 } else { scheme.int_range().0 });
        }
        let zero_point = match scheme.symmetric {
            true => 0,
            false => (q_min - lo / f64::from(scale)).round_ties_even().clamp(q_min, q_max) as i32,
        };
        (scale, zero_point)
    }

    /// Returns the grid of one scale for the interval `lo..=hi`.
    pub fn per_tensor(scheme: Scheme, lo: f32, hi: f32) -> Self {
        let (scale, zero_point) = Self::of_range(&scheme, lo, hi);
        Self { scheme, scale: vec![scale], zero_point: vec![zero_point] }
    }

    /// Returns the integer of `x` as QuantizeLinear rounds it: half to even, then saturated.
    pub fn quantize(&self, x: f32, channel: usize) -> i32 {
        let (q_min, q_max) = self.scheme.int_range();
        let q = (x / self.scale[channel]).round_ties_even() as i32;
        q.saturating_add(self.zero_point[channel]).clamp(q_min, q_max)
    }

    /// Returns the value of the integer `q`.
    pub fn dequantize(&self, q: i32, channel: usize) -> f32 {
        let steps = (q - self.zero_point[channel]) as f32;
        steps * self.scale[channel]
    }

    /// Returns the smallest and largest number of steps from zero that channel `channel` represents.
    pub fn levels(&self, channel: usize) -> (f32, f32) {
        let (q_min, q_max) = self.scheme.int_range();
        let steps = |q: i32| (q - self.zero_point[channel]) as f32;
        (steps(q_min), steps(q_max))
    }

    /// Returns how many steps from zero the farther end of a channel is; `channel` counts where channels differ.
    pub fn farthest(&self, channel: usize) -> f32 {
        let (lo, hi) = self.levels(if self.zero_point.len() == 1 { 0 } else { channel });
        lo.abs().max(hi)
    }

    /// Returns the smallest and largest value that is represented by channel `channel`.
    pub fn range(&self, channel: usize) -> (f32, f32) {
        let (q_min, q_max) = self.scheme.int_range();
        (self.dequantize(q_min, channel), self.dequantize(q_max, channel))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_exact_and_ranges_are_met_for_every_scheme() {
        let mut failed = Vec::new();
        for bits in 2..=8 {
            for (signed, symmetric) in [(false, false), (true, true), (true, false)] {
                for (lo, hi) in [(0.0, 6.0), (-1.0, 3.0), (-2.5, 0.0), (-1e-3, 1e3), (0.5, 1.0)] {
                    let scheme = Scheme { bits, signed, symmetric, narrow: symmetric && bits == 8, axis: None };
                    let grid = Grid::per_tensor(scheme, lo, hi);
                    let zero = grid.dequantize(grid.quantize(0.0, 0), 0);
                    let step = grid.scale[0];
                    let ends = [lo.min(0.0), hi.max(0.0)].map(|x| (grid.dequantize(grid.quantize(x, 0), 0) - x).abs());
                    if zero != 0.0 || ends.iter().any(|&e| e > 0.51 * step) {
                        failed.push((bits, signed, symmetric, lo, hi, ends, step));
                    }
                }
            }
        }
        assert!(failed.is_empty(), "{failed:?}");
    }

    #[test]
    fn ties_go_to_even_and_ends_saturate() {
        let grid = Grid::per_tensor(Scheme::activation(8), 0.0, 255.0);
        assert_eq!([0.5, 1.5, 2.5, -9.0, 300.0].map(|x| grid.quantize(x, 0)), [0, 2, 2, 0, 255]);
    }

    #[test]
    fn an_empty_range_gets_scale_one() {
        assert_eq!(Grid::of_range(&Scheme::activation(4), 0.0, 0.0), (1.0, 0));
    }
}
