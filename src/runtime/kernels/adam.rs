//! One step of Adam over a flat vector, as `train::Optimiser::Adam` writes it in standard operators, to the bit.

use std::sync::{Mutex, PoisonError};

use super::job::{Job, dispatch};
use super::{Instructions, Spread};

/// Elements in a piece of work.
const PIECE: usize = 1 << 14;

/// The constants of Adam, each rounded once from f64.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// `1 - β₁`.
    pub share1: f32,
    /// `β₂`.
    pub beta2: f32,
    /// `1 - β₂`.
    pub share2: f32,
    /// `ε`.
    pub epsilon: f32,
    /// `λ` of a decay that acts on the gradient, 0 for none.
    pub weight_decay: f32,
}

/// Parameters and moments, all of one length, after a step.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct AdamState<'a> {
    pub parameters: &'a mut [f32],
    pub m: &'a mut [f32],
    pub v: &'a mut [f32],
}

/// Writes parameters and moments one step on. `before` are parameters, gradient, `m` and `v`; `rates` what
/// `Optimiser::rates` makes: two, or three where the decay is decoupled; `mask` factors of the rate, one or one for each
/// element.
///
/// # Errors
/// Vectors of different lengths.
pub fn adam_update(
    adam: &Adam,
    before: [&[f32]; 4],
    (rates, mask): (&[f32], &[f32]),
    after: AdamState,
    (best, spread): (Instructions, Spread),
) -> Result<(), String> {
    let n = before[0].len();
    let lengths = before.map(<[f32]>::len).into_iter().chain([after.parameters.len(), after.m.len(), after.v.len()]);
    let lengths: Vec<usize> = lengths.collect();
    if lengths.iter().any(|&len| len != n) || !(mask.len() == 1 || mask.len() == n) || !matches!(rates.len(), 2 | 3) {
        let (mask, rates) = (mask.len(), rates.len());
        return Err(format!(
            "expected vectors of one length, a mask of 1 or as many, and 2 or 3 rates, found {lengths:?}, {mask}, {rates}"
        ));
    }
    let AdamState { parameters, m, v } = after;
    let pieces = parameters.chunks_mut(PIECE).zip(m.chunks_mut(PIECE)).zip(v.chunks_mut(PIECE));
    let pieces: Vec<Mutex<AdamState>> =
        pieces.map(|((parameters, m), v)| Mutex::new(AdamState { parameters, m, v })).collect();
    spread(pieces.len(), &|piece| {
        let mut after = pieces[piece].lock().unwrap_or_else(PoisonError::into_inner);
        let range = piece * PIECE..piece * PIECE + after.m.len();
        let before = before.map(|vector| &vector[range.clone()]);
        let mask = if mask.len() == 1 { mask } else { &mask[range] };
        dispatch(best, (Step { adam, before, rates, mask }, &mut *after));
    });
    Ok(())
}

struct Step<'a> {
    adam: &'a Adam,
    before: [&'a [f32]; 4],
    rates: &'a [f32],
    mask: &'a [f32],
}

impl Job for (Step<'_>, &mut AdamState<'_>) {
    #[inline(always)]
    fn run(self) {
        let (step, after) = self;
        match (step.mask, step.rates.get(2)) {
            (&[factor], None) => elements(&step, after, |_| factor, |_| None),
            (mask, None) => elements(&step, after, |i| mask[i], |_| None),
            (&[factor], Some(&decay)) => elements(&step, after, |_| factor, |p| Some(decay * p)),
            (mask, Some(&decay)) => elements(&step, after, |i| mask[i], |p| Some(decay * p)),
        }
    }
}

#[inline(always)]
fn elements(step: &Step, after: &mut AdamState, factor: impl Fn(usize) -> f32, decay: impl Fn(f32) -> Option<f32>) {
    let Adam { share1, beta2, share2, epsilon, weight_decay } = *step.adam;
    let [p, g, m, v] = step.before;
    let n = p.len();
    let (g, m, v) = (&g[..n], &m[..n], &v[..n]);
    let (to_p, to_m, to_v) = (&mut after.parameters[..n], &mut after.m[..n], &mut after.v[..n]);
    let (rate, correction) = (step.rates[0], step.rates[1]);
    for i in 0..n {
        let g = if weight_decay == 0.0 { g[i] } else { g[i] + p[i] * weight_decay };
        let m = m[i] + (g - m[i]) * share1;
        let v = v[i] * beta2 + g * g * share2;
        let direction = rate * m / (v.sqrt() / correction + epsilon);
        let direction = decay(p[i]).map_or(direction, |decay| direction + decay);
        (to_m[i], to_v[i]) = (m, v);
        to_p[i] = p[i] - factor(i) * direction;
    }
}

#[cfg(test)]
mod tests {
    use super::super::in_turn;
    use super::*;

    #[test]
    #[allow(clippy::cast_precision_loss)]
    fn all_instructions_and_orders_give_the_same_bits() {
        let n = PIECE + 1003;
        let numbers =
            |seed: usize| -> Vec<f32> { (0..n).map(|i| ((i * 7919 + seed) % 1009) as f32 / 1009.0).collect() };
        let [p, g, m, v, mask] = [1, 2, 3, 4, 5].map(numbers);
        let backwards = |pieces: usize, work: &(dyn Fn(usize) + Sync)| (0..pieces).rev().for_each(work);
        for (weight_decay, rates) in [(0.0, &[0.1, 0.9][..]), (0.1, &[0.1, 0.9]), (0.0, &[0.1, 0.9, 0.05])] {
            for mask in [&mask[..], &[0.5]] {
                let adam = Adam { share1: 0.1, beta2: 0.999, share2: 0.001, epsilon: 1e-8, weight_decay };
                let run = |best: Instructions, spread: Spread| {
                    let mut after = [vec![0.0; n], vec![0.0; n], vec![0.0; n]];
                    let [parameters, next_m, next_v] = &mut after;
                    let state = AdamState { parameters, m: next_m, v: next_v };
                    adam_update(&adam, [&p, &g, &m, &v], (rates, mask), state, (best, spread)).unwrap();
                    after.map(|values| values.into_iter().map(f32::to_bits).collect::<Vec<_>>())
                };
                let expected = run(Instructions::available()[0], &in_turn);
                for best in Instructions::available() {
                    assert!(run(best, &backwards) == expected, "{rates:?}, {best:?}");
                }
            }
        }
    }
}
