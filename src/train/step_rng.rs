//! Randomness of single steps. Step graphs hold no random operators: what is drawn is fed, by numbers that follow from
//! seed, stage and step alone, so that a resumed run draws the same.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::expr::index;

/// Returns the random numbers of `step` in `stage`; stages of one seed are kept apart.
pub fn step_rng(seed: u64, stage: u64, step: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    for (place, number) in [seed, stage, step].into_iter().enumerate() {
        key[8 * place..8 * place + 8].copy_from_slice(&number.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// Images are shifted by up to this part of their sides.
pub const SHIFT: usize = 8;

/// Returns the place in a side that `place` stands for, mirrored at the edges.
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

/// Returns the places that a side takes its pixels from when it is shifted by up to `most`, mirrored at the edges.
pub fn shifted(side: usize, most: usize, rng: &mut ChaCha8Rng) -> Vec<i64> {
    let most = index(most.min(side.saturating_sub(1)));
    let shift = rng.random_range(-most..=most);
    (0..index(side)).map(|place| mirrored(place + shift, side)).collect()
}

/// Returns the rows and columns that an image takes its pixels from when it is shifted and, every other time, mirrored.
pub fn random_flip_shift(height: usize, width: usize, rng: &mut ChaCha8Rng) -> [Vec<i64>; 2] {
    let [rows, columns] = [height, width].map(|side| shifted(side, side / SHIFT, rng));
    [rows, if rng.random() { columns.into_iter().rev().collect() } else { columns }]
}
