//! Smooth random images with about the spectrum of photographs.
//! Logarithm and cosine come from `libm`, so that one seed gives the same values on every machine.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Share of a channel's pattern that all channels have in common; photographs are mostly grey.
const SHARED: f32 = 0.8;
/// The own share: shared and own together have variance 1.
const OWN: f32 = 0.6;

/// Returns images of `shape` `[n, c, h, w]`: noise at halving resolutions, upsampled and added up, each octave twice as
/// strong as the next finer one (amplitude about 1/frequency), with random contrast and brightness per image.
///
/// `shape` must have rank 4. `mean` and `std` (one value or one per channel) hold over many images; one image differs from them.
pub fn smooth_images(shape: &[usize], mean: &[f32], std: &[f32], seed: u64) -> Vec<f32> {
    let &[n, c, h, w] = shape else { panic!("images have rank 4") };
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let of = |values: &[f32], channel: usize, default| match values {
        [] => default,
        [one] => *one,
        many => many[channel],
    };
    let mut out = Vec::with_capacity(n * c * h * w);
    for _ in 0..n {
        // 0.67 is the mean square of a contrast between 0.5 and 1.1; brightness adds what is missing to 1.
        let contrast = 0.5 + 0.6 * uniform(&mut rng);
        let brightness = 0.57 * normal(&mut rng);
        let shared = pattern(h, w, &mut rng);
        for channel in 0..c {
            let own = pattern(h, w, &mut rng);
            let (mean, std) = (of(mean, channel, 0.0), of(std, channel, 1.0));
            let value = |(s, o): (&f32, &f32)| mean + std * (contrast * (SHARED * s + OWN * o) + brightness);
            out.extend(shared.iter().zip(&own).map(value));
        }
    }
    out
}

/// Returns one `h` x `w` pattern of mean 0 and variance 1.
fn pattern(h: usize, w: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let mut sum = vec![0f32; h * w];
    let mut cell = 1usize;
    while cell <= h.min(w).max(1) {
        let (rows, columns) = (h.div_ceil(cell) + 1, w.div_ceil(cell) + 1);
        let noise: Vec<f32> = (0..rows * columns).map(|_| normal(rng)).collect();
        add_upsampled(&mut sum, w, &noise, columns, cell);
        cell *= 2;
    }
    standardise(&mut sum);
    sum
}

#[allow(clippy::cast_precision_loss)]
fn add_upsampled(sum: &mut [f32], w: usize, noise: &[f32], columns: usize, cell: usize) {
    let amplitude = cell as f32;
    let fractions: Vec<f32> = (0..cell).map(|i| i as f32 / amplitude).collect();
    for (y, row) in sum.chunks_mut(w.max(1)).enumerate() {
        let fy = fractions[y % cell];
        let corners = &noise[y / cell * columns..];
        for (i, values) in row.chunks_mut(cell).enumerate() {
            let [a, b, c, d] = [corners[i], corners[i + 1], corners[columns + i], corners[columns + i + 1]];
            for (value, fx) in values.iter_mut().zip(&fractions) {
                let top = a * (1.0 - fx) + b * fx;
                let bottom = c * (1.0 - fx) + d * fx;
                *value += amplitude * (top * (1.0 - fy) + bottom * fy);
            }
        }
    }
}

#[allow(clippy::cast_precision_loss)]
fn standardise(values: &mut [f32]) {
    let n = values.len() as f32;
    let mean = values.iter().sum::<f32>() / n;
    let variance = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f32>() / n;
    let scale = if variance > 0.0 { 1.0 / variance.sqrt() } else { 0.0 };
    for value in values {
        *value = (*value - mean) * scale;
    }
}

/// Returns a number in [0, 1).
#[allow(clippy::cast_precision_loss)]
pub(super) fn uniform(rng: &mut ChaCha8Rng) -> f32 {
    (rng.next_u32() >> 8) as f32 / 16_777_216.0
}

/// Returns a standard normal number (Box and Muller 1958).
#[allow(clippy::cast_possible_truncation)]
pub(super) fn normal(rng: &mut ChaCha8Rng) -> f32 {
    let radius = (-2.0 * libm::log(f64::from(1.0 - uniform(rng)))).sqrt();
    (radius * libm::cos(std::f64::consts::TAU * f64::from(uniform(rng)))) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_bits_and_another_seed_others() {
        let images = smooth_images(&[1, 1, 4, 4], &[0.0], &[1.0], 7);
        assert_eq!(images, smooth_images(&[1, 1, 4, 4], &[0.0], &[1.0], 7));
        assert_ne!(images, smooth_images(&[1, 1, 4, 4], &[0.0], &[1.0], 8));
    }

    #[test]
    fn mean_and_variance_are_the_asked_ones_over_many_images_and_neighbours_are_alike() {
        let images = smooth_images(&[400, 2, 16, 16], &[0.5, -2.0], &[0.25, 3.0], 1);
        for (channel, (mean, std)) in [(0.5f32, 0.25f32), (-2.0, 3.0)].into_iter().enumerate() {
            let values: Vec<f32> =
                images.chunks(256).skip(channel).step_by(2).flat_map(|plane| plane.iter().copied()).collect();
            let n = values.len() as f32;
            let found = values.iter().sum::<f32>() / n;
            let centred: Vec<f32> = values.iter().map(|v| v - found).collect();
            let spread = (centred.iter().map(|v| v * v).sum::<f32>() / n).sqrt();
            let alike = centred.windows(2).map(|p| p[0] * p[1]).sum::<f32>() / n / (spread * spread);
            assert!((found - mean).abs() < 0.1 * std, "channel {channel}: mean {found}");
            assert!((spread / std - 1.0).abs() < 0.1, "channel {channel}: std {spread}");
            assert!(alike > 0.6, "channel {channel}: neighbours correlate {alike}");
        }
    }
}
