//! Random numbers of single steps. Step graphs hold no random operators: random values are fed and depend only on seed,
//! stage and step, so that a resumed run draws the same values.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::expr::index;

/// Returns the random generator of `step` in `stage`; stages of one seed have different streams.
pub fn step_rng(seed: u64, stage: u64, step: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    for (place, number) in [seed, stage, step].into_iter().enumerate() {
        key[8 * place..8 * place + 8].copy_from_slice(&number.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// The random numbers of a stage: one stream per step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RandomStream {
    /// The seed of the run.
    pub seed: u64,
    /// Separates the stage from others of the same seed.
    pub stage: u64,
}

impl RandomStream {
    /// Returns the stream of a stage.
    pub fn new(seed: u64, stage: u64) -> Self {
        Self { seed, stage }
    }

    /// Returns the random generator of `step` ([`step_rng`]).
    pub fn at(self, step: u64) -> ChaCha8Rng {
        step_rng(self.seed, self.stage, step)
    }
}

/// Images are shifted by up to one part in this many of their sides.
pub const SHIFT: usize = 8;

/// Returns the index `place` along a side, mirrored at the edges.
pub fn mirrored(place: i64, side: usize) -> i64 {
    let last = index(side) - 1;
    if place < 0 {
        -place
    } else if place > last {
        2 * last - place
    } else {
        place
    }
}

/// Returns the source indices of a side shifted by up to `most` pixels, mirrored at the edges.
pub fn shifted(side: usize, most: usize, rng: &mut ChaCha8Rng) -> Vec<i64> {
    let most = index(most.min(side.saturating_sub(1)));
    let shift = rng.random_range(-most..=most);
    (0..index(side)).map(|place| mirrored(place + shift, side)).collect()
}

/// Returns the source rows and columns of a randomly shifted image, flipped with probability one half.
pub fn random_flip_shift(height: usize, width: usize, rng: &mut ChaCha8Rng) -> [Vec<i64>; 2] {
    let [rows, columns] = [height, width].map(|side| shifted(side, side / SHIFT, rng));
    [rows, if rng.random() { columns.into_iter().rev().collect() } else { columns }]
}
