//! Random images with the statistics of photographs that matter to a first layer: correlated colors, a similar
//! spectrum, and soft edges between areas that occlude one another.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::leaves::{Leaf, draw_leaves, paint_leaves};
use super::smooth::{normal, pattern, skip_patterns, soften, uniform};
use crate::parallel;

/// Share of a channel's pattern that is common to all channels: channels of photographs correlate by 0.9.
const SHARED: f32 = 0.949;
/// Share of a channel's own pattern: together they have variance 1.
const OWN: f32 = 0.316;
/// Standard deviation of the texture on every leaf; that of the leaves' colors is 1.
const TEXTURE: f32 = 0.3;

/// Mean and standard deviation of inputs, each one value or one per channel.
#[derive(Clone, Copy, Debug)]
pub struct InputMoments<'a> {
    /// The mean.
    pub mean: &'a [f32],
    /// The standard deviation.
    pub std: &'a [f32],
}

impl InputMoments<'static> {
    /// Mean 0 and standard deviation 1.
    pub const STANDARD: Self = Self { mean: &[0.0], std: &[1.0] };
}

/// Returns images of `shape` `[n, c, h, w]`: leaves of one color each over a smooth pattern and with a smooth texture,
/// with random contrast and brightness per image.
///
/// `shape` must have rank 4. `moments` hold over many images; a single image differs from them.
pub fn natural_images(shape: &[usize], moments: InputMoments, seed: u64, threads: usize) -> Vec<f32> {
    let &[n, c, h, w] = shape else { panic!("images have rank 4") };
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let of = |values: &[f32], channel: usize, default| match values {
        [] => default,
        [one] => *one,
        many => many[channel],
    };
    // Random numbers are drawn in one sequence; what is made of most of them, image by image.
    let sketches = (0..n).map(move |_| Sketch::draw(c, h, w, &mut rng));
    let image = |sketch: Sketch| {
        let mut rng = sketch.texture;
        let texture = coloured_pattern(c, h, w, &mut rng);
        let mut planes = texture.clone();
        paint_leaves(&mut planes, h, w, &sketch.leaves);
        for plane in &mut planes {
            soften(plane, h, w);
        }
        let mut image = Vec::with_capacity(c * h * w);
        for (channel, (plane, texture)) in planes.iter().zip(&texture).enumerate() {
            let (mean, std) = (of(moments.mean, channel, 0.0), of(moments.std, channel, 1.0));
            let value =
                |(leaf, t): (&f32, &f32)| mean + std * (sketch.contrast * (leaf + TEXTURE * t) + sketch.brightness);
            image.extend(plane.iter().zip(texture).map(value));
        }
        image
    };
    parallel::map(threads, sketches, image).concat()
}

/// The random choices of one image.
struct Sketch {
    contrast: f32,
    brightness: f32,
    /// The random numbers of the texture.
    texture: ChaCha8Rng,
    leaves: Vec<(Leaf, Vec<f32>)>,
}

impl Sketch {
    fn draw(c: usize, h: usize, w: usize, rng: &mut ChaCha8Rng) -> Self {
        // 0.67 is the mean square of a contrast between 0.5 and 1.1; brightness adds what is missing to 1.
        let contrast = (0.5 + 0.6 * uniform(rng)) / (1.0 + TEXTURE * TEXTURE).sqrt();
        let brightness = 0.57 * normal(rng);
        let texture = rng.clone();
        skip_patterns(rng, h, w, c + 1);
        let leaves = draw_leaves(h, w, rng, |rng| {
            let shared = normal(rng);
            (0..c).map(|_| SHARED * shared + OWN * normal(rng)).collect()
        });
        Self { contrast, brightness, texture, leaves }
    }
}

fn coloured_pattern(channels: usize, h: usize, w: usize, rng: &mut ChaCha8Rng) -> Vec<Vec<f32>> {
    let shared = pattern(h, w, rng);
    let mut one = || -> Vec<f32> {
        let own = pattern(h, w, rng);
        shared.iter().zip(&own).map(|(s, o)| SHARED * s + OWN * o).collect()
    };
    (0..channels).map(|_| one()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_bits_with_any_number_of_threads_and_another_seed_others() {
        let make = |seed, threads| natural_images(&[3, 2, 9, 7], InputMoments::STANDARD, seed, threads);
        let images = make(7, 1);
        for threads in [1, 2, 5] {
            assert_eq!(images, make(7, threads), "{threads} threads");
            assert_ne!(images, make(8, threads), "{threads} threads");
        }
    }

    #[test]
    fn mean_and_variance_are_the_asked_ones_over_many_images_and_neighbours_are_alike() {
        let moments = InputMoments { mean: &[0.5, -2.0], std: &[0.25, 3.0] };
        let images = natural_images(&[400, 2, 16, 16], moments, 1, 1);
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
