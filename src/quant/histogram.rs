//! The distribution of a tensor as masses over equal bins, from clipped normals or from values.

use crate::stats::{ClippedNormal, Moments};

/// Bins of a histogram: several per step of an 8-bit grid.
const BINS: usize = 2048;
/// Reach of an unclipped distribution, in standard deviations.
const REACH: f64 = 10.0;
/// Real activations have heavier tails than a normal distribution of their mean and variance: each channel is a mixture
/// of itself and a wider one. Weight and width of the wider one; chosen on development models, where plain normals
/// clipped too early at every number of bits.
const TAIL: (f64, f64) = (0.1, 2.5);

/// Masses of equal bins over `lo..hi`; exact zeros (behind a ReLU, padding) are kept apart, since grids meet them
/// exactly.
#[derive(Clone, Debug)]
pub struct Histogram {
    /// Left end of the first bin.
    pub lo: f64,
    /// Right end of the last bin.
    pub hi: f64,
    /// Mass of each bin.
    pub mass: Vec<f64>,
    /// Mass at exactly 0.
    pub zeros: f64,
}

impl Histogram {
    /// Returns the mixture of all channels with equal weight.
    pub fn of_moments(moments: &Moments) -> Self {
        let ends: Vec<(f64, f64)> = moments
            .0
            .iter()
            .map(|c| ((c.mean - REACH * c.std).clamp(c.lo, c.hi), (c.mean + REACH * c.std).clamp(c.lo, c.hi)))
            .collect();
        let lo = ends.iter().map(|e| e.0).fold(0.0, f64::min);
        let hi = ends.iter().map(|e| e.1).fold(0.0, f64::max);
        let mut histogram = Self { lo, hi, mass: vec![0.0; BINS], zeros: 0.0 };
        for (channel, &(from, to)) in moments.0.iter().zip(&ends) {
            let wide = ClippedNormal { std: TAIL.1 * channel.std, ..*channel };
            histogram.add_channel(channel, 1.0 - TAIL.0, from, to);
            histogram.add_channel(&wide, TAIL.0, from, to);
        }
        histogram
    }

    fn add_channel(&mut self, channel: &ClippedNormal, weight: f64, from: f64, to: f64) {
        if channel.lo == 0.0 {
            self.zeros += weight * channel.cdf(0.0);
        } else if channel.hi == 0.0 {
            self.zeros += weight * (1.0 - channel.cdf(-f64::MIN_POSITIVE));
        }
        let mut below = if channel.lo == 0.0 { channel.cdf(0.0) } else { 0.0 };
        for bin in self.bin(from)..=self.bin(to) {
            let up_to = channel.cdf(self.left(bin + 1)).max(below);
            self.mass[bin] += weight * (up_to - below);
            below = up_to;
        }
        let last = self.bin(to);
        self.mass[last] += weight * (1.0 - below);
    }

    /// Returns the histogram of `values`; those that are no numbers are left out.
    pub fn of_values(values: &[f32]) -> Self {
        let finite = || values.iter().copied().filter(|v| v.is_finite()).map(f64::from);
        let lo = finite().fold(0.0, f64::min);
        let hi = finite().fold(0.0, f64::max);
        let mut histogram = Self { lo, hi, mass: vec![0.0; BINS], zeros: 0.0 };
        for v in finite() {
            if v == 0.0 {
                histogram.zeros += 1.0;
            } else {
                let bin = histogram.bin(v);
                histogram.mass[bin] += 1.0;
            }
        }
        histogram
    }

    /// Returns the width of a bin.
    pub fn width(&self) -> f64 {
        (self.hi - self.lo) / self.mass.len() as f64
    }

    fn left(&self, bin: usize) -> f64 {
        if bin >= self.mass.len() { self.hi } else { self.lo + self.width() * bin as f64 }
    }

    fn bin(&self, x: f64) -> usize {
        let width = self.width();
        if width <= 0.0 { 0 } else { (((x - self.lo) / width).max(0.0) as usize).min(self.mass.len() - 1) }
    }

    /// Returns centre and mass of every bin that holds something.
    pub fn bins(&self) -> impl Iterator<Item = (f64, f64)> {
        let width = self.width();
        let centre = move |(i, &m): (usize, &f64)| (self.left(i) + 0.5 * width, m);
        self.mass.iter().enumerate().map(centre).filter(|b| b.1 > 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rectified_normal_keeps_its_mass() {
        let relu = ClippedNormal::new(0.5, 1.0).clip(0.0, f64::INFINITY);
        let capped = ClippedNormal::new(5.0, 2.0).clip(0.0, 6.0);
        for channels in [vec![relu], vec![relu, capped], vec![ClippedNormal::new(0.0, 1.0)]] {
            let n = channels.len();
            let histogram = Histogram::of_moments(&Moments(channels));
            let mass = histogram.mass.iter().sum::<f64>() + histogram.zeros;
            let expected = n as f64;
            assert!((mass - expected).abs() < 1e-6, "{mass} of {expected}");
        }
    }

    #[test]
    fn values_outside_numbers_are_left_out() {
        let histogram = Histogram::of_values(&[f32::NAN, 1.0, -1.0, 0.0, f32::INFINITY]);
        assert_eq!((histogram.lo, histogram.hi, histogram.zeros), (-1.0, 1.0, 1.0));
    }
}
