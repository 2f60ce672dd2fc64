//! Randomness of single steps. Step graphs hold no random operators: what is drawn is fed, by numbers that follow from
//! seed, stage and step alone, so that a resumed run draws the same.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Returns the random numbers of `step` in `stage`; stages of one seed are kept apart.
pub fn chance(seed: u64, stage: u64, step: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    for (place, number) in [seed, stage, step].into_iter().enumerate() {
        key[8 * place..8 * place + 8].copy_from_slice(&number.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}
