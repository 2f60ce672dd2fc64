//! Scale search: the clipping range with the least mean squared error.

use super::{ChannelLayout, Grid, Histogram, Scheme};
use crate::parallel;

/// Shares of the full range that are tried as clipping range, coarse steps first, then fine ones around the best.
const COARSE: usize = 20;
const FINE: usize = 8;
/// Below this many bins a step, the error inside a step is taken as uniform (step²/12) instead of bin by bin.
const RESOLVED_BINS: f64 = 4.0;

/// Returns the grid whose expected squared error over `histogram` is least.
pub fn activation_grid(scheme: Scheme, histogram: &Histogram) -> Grid {
    let grid = |share: f64| {
        let (lo, hi) = ((histogram.lo * share) as f32, (histogram.hi * share) as f32);
        Grid::per_tensor(scheme, lo, hi)
    };
    grid(best_share(|share| activation_error(&grid(share), histogram)))
}

fn activation_error(grid: &Grid, histogram: &Histogram) -> f64 {
    let (lo, hi) = grid.range(0);
    let (lo, hi) = (f64::from(lo), f64::from(hi));
    let step = f64::from(grid.scale[0]);
    let resolved = step > RESOLVED_BINS * histogram.width();
    let error = |x: f64| {
        let nearest = (x / step).round_ties_even() * step;
        match x.clamp(lo, hi) - x {
            0.0 if resolved => (nearest.clamp(lo, hi) - x).powi(2),
            0.0 => step * step / 12.0,
            clipped => clipped * clipped,
        }
    };
    histogram.bins().map(|(x, mass)| mass * error(x)).sum()
}

/// Returns the grid of a weight: per channel (or in all) the clipping range with the least squared error.
///
/// `values` are in row-major order, cut into channels by `layout`, of which `threads` are looked at side by side. All-zero
/// channels get scale 1.
pub fn weight_grid(scheme: Scheme, values: &[f32], layout: ChannelLayout, threads: usize) -> Grid {
    let layout = if scheme.axis.is_some() { layout } else { ChannelLayout::whole(values.len()) };
    let channel = |channel: usize| -> (f32, i32) {
        // In one piece: a channel of a MatMul weight is one element a row.
        let own: Vec<f32> = layout.values(values, channel).collect();
        let lo = own.iter().copied().fold(0.0f32, f32::min);
        let hi = own.iter().copied().fold(0.0f32, f32::max);
        let at = |share: f64| Grid::of_range(&scheme, lo * share as f32, hi * share as f32);
        let error = |share: f64| {
            let (scale, zero_point) = at(share);
            weight_error(&scheme, scale, zero_point, &own)
        };
        at(best_share(error))
    };
    let (scale, zero_point) = parallel::map(threads, 0..layout.channels, channel).into_iter().unzip();
    Grid { scheme, scale, zero_point }
}

/// Adding and subtracting this rounds an `f32` below 2^22 half to even, and vectorises on every CPU.
const ROUND: f32 = 12_582_912.0;

fn weight_error(scheme: &Scheme, scale: f32, zero_point: i32, values: &[f32]) -> f64 {
    let (q_min, q_max) = scheme.int_range();
    let (lo, hi) = ((q_min - zero_point) as f32, (q_max - zero_point) as f32);
    let inverse = 1.0 / scale;
    const LANES: usize = 16;
    // In steps: squares of very large or small weights would leave float32.
    let error = |w: f32| {
        let exact = w * inverse;
        let off = (exact.clamp(lo, hi) + ROUND - ROUND) - exact;
        off * off
    };
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut total = rest.iter().map(|&w| f64::from(error(w))).sum::<f64>();
    for chunk in chunks.chunks(64) {
        let mut lanes = [0.0f32; LANES];
        for values in chunk {
            for (lane, &w) in lanes.iter_mut().zip(values) {
                *lane += error(w);
            }
        }
        total += lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>();
    }
    total * f64::from(scale) * f64::from(scale)
}

/// Returns the share of the full range with the least error: the best of a coarse sweep, refined on both sides.
fn best_share(error: impl Fn(f64) -> f64) -> f64 {
    let best = |shares: &mut dyn Iterator<Item = f64>| {
        let scored = shares.map(|share| (error(share), share));
        scored.min_by(|a, b| a.0.total_cmp(&b.0)).map_or(1.0, |b| b.1)
    };
    let coarse = best(&mut (0..COARSE).map(|i| 1.0 - i as f64 / COARSE as f64));
    let step = 1.0 / COARSE as f64;
    let fine = |i: usize| coarse + step * (2.0 * i as f64 / FINE as f64 - 1.0);
    best(&mut (0..=FINE).map(fine).filter(|&share| share > 0.0 && share <= 1.0).chain([coarse]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Optimal clipping of a unit Gaussian by a uniform quantizer: 2, 3, 4 bits at 1.71, 2.15, 2.55 standard
    /// deviations (Banner et al. 2019, "ACIQ", table 1, Gaussian).
    #[test]
    fn the_clipping_range_of_a_gaussian_is_the_known_one() {
        let density = |i: u32| (-0.5 * (f64::from(i) / 100.0 - 6.0).powi(2)).exp();
        let histogram = Histogram { lo: -6.0, hi: 6.0, mass: (0..1200).map(density).collect(), zeros: 0.0 };
        let mut failed = Vec::new();
        for (bits, expected) in [(2, 1.71), (3, 2.15), (4, 2.55)] {
            let scheme = Scheme { signed: true, ..Scheme::activation(bits) };
            let (lo, hi) = activation_grid(scheme, &histogram).range(0);
            if ((hi - lo) / 2.0 - expected).abs() > 0.3 {
                failed.push((bits, lo, hi, expected));
            }
        }
        assert!(failed.is_empty(), "{failed:?}");
    }

    #[test]
    fn search_beats_the_full_range_and_channels_are_apart() {
        let values: Vec<f32> =
            (0..64).map(|i| ((i * 37 % 64) as f32 - 32.0) * if i < 32 { 1.0 } else { 0.01 }).collect();
        let mut outlier = values.clone();
        outlier[0] = 400.0;
        let scheme = Scheme::weight(4, true, Some(0));
        let layout = ChannelLayout::along(&[2, 32], Some(0));
        let grid = weight_grid(scheme, &values, layout, 2);
        assert!(grid.scale[0] > 50.0 * grid.scale[1], "{grid:?}");
        let full = 400.0 / 7.0;
        assert!(weight_grid(scheme, &outlier, layout, 1).scale[0] < full);
    }

    #[test]
    fn a_channel_of_zeros_gets_scale_one() {
        let scheme = Scheme::weight(8, true, Some(0));
        assert_eq!(weight_grid(scheme, &[0.0; 8], ChannelLayout::along(&[2, 4], Some(0)), 1).scale, [1.0, 1.0]);
    }
}
