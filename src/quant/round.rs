//! Rounding of weights onto their grid.

use bytes::Bytes;

use super::Grid;

/// The split of a row-major tensor into channels along one axis: `[outer, channels, inner]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelLayout {
    /// Product of the dimensions before the axis.
    pub outer: usize,
    /// Size of the axis.
    pub channels: usize,
    /// Product of the dimensions after the axis.
    pub inner: usize,
}

impl ChannelLayout {
    /// Returns the layout of one channel that is the whole tensor.
    pub fn whole(len: usize) -> Self {
        Self { outer: 1, channels: 1, inner: len }
    }

    /// Returns the layout of `shape` along `axis`, or of the whole tensor.
    pub fn along(shape: &[usize], axis: Option<usize>) -> Self {
        match axis {
            None => Self::whole(shape.iter().product()),
            Some(a) => {
                Self { outer: shape[..a].iter().product(), channels: shape[a], inner: shape[a + 1..].iter().product() }
            }
        }
    }

    /// Returns the channel of element `i`.
    pub fn channel(&self, i: usize) -> usize {
        i / self.inner.max(1) % self.channels
    }

    /// Returns the index ranges of a channel's elements.
    pub fn runs(&self, channel: usize) -> impl Iterator<Item = std::ops::Range<usize>> + use<> {
        let Self { outer, channels, inner } = *self;
        (0..outer).map(move |o| {
            let start = (o * channels + channel) * inner;
            start..start + inner
        })
    }

    /// Returns a channel's elements.
    pub fn values<'a>(&self, values: &'a [f32], channel: usize) -> impl Iterator<Item = f32> + use<'a> {
        self.runs(channel).flat_map(move |run| values[run].iter().copied())
    }
}

/// Integers on a grid.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedTensor {
    /// The grid of the integers.
    pub grid: Grid,
    /// The tensor's dimensions.
    pub shape: Vec<usize>,
    /// One byte per integer in row-major order, in two's complement where the scheme is signed.
    pub bytes: Bytes,
}

impl QuantizedTensor {
    /// Returns integer `i`.
    pub fn integer(&self, i: usize) -> i32 {
        let byte = self.bytes[i];
        if self.grid.scheme.signed { i32::from(byte.cast_signed()) } else { i32::from(byte) }
    }

    /// Returns the signal-to-noise ratio against `values` in dB; none where there is no signal or no noise.
    pub fn sqnr(&self, values: &[f32]) -> Option<f64> {
        let layout = ChannelLayout::along(&self.shape, self.grid.scheme.axis);
        let (mut signal, mut noise) = (0.0, 0.0);
        for (i, &w) in values.iter().enumerate() {
            let error = f64::from(self.grid.dequantize(self.integer(i), layout.channel(i)) - w);
            signal += f64::from(w) * f64::from(w);
            noise += error * error;
        }
        (signal > 0.0 && noise > 0.0).then(|| 10.0 * (signal / noise).log10())
    }

    /// Returns the values that the integers stand for.
    pub fn dequantize(&self) -> Vec<f32> {
        let layout = ChannelLayout::along(&self.shape, self.grid.scheme.axis);
        let value = |i| self.grid.dequantize(self.integer(i), layout.channel(i));
        (0..self.bytes.len()).map(value).collect()
    }
}

/// Returns every value's nearest integer of `grid` (ties to even).
pub fn round_to_nearest(grid: Grid, shape: &[usize], values: &[f32]) -> QuantizedTensor {
    let layout = ChannelLayout::along(shape, grid.scheme.axis);
    let mut bytes = vec![0u8; values.len()];
    for channel in 0..layout.channels {
        for run in layout.runs(channel) {
            for (byte, &w) in bytes[run.clone()].iter_mut().zip(&values[run]) {
                *byte = grid.quantize(w, channel).to_le_bytes()[0];
            }
        }
    }
    QuantizedTensor { grid, shape: shape.to_vec(), bytes: bytes.into() }
}
