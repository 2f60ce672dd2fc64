//! Elements where a condition holds, zeros elsewhere.

use std::sync::{Mutex, PoisonError};

use super::Execution;
use super::job::{Job, dispatch};

/// Elements in a piece of work.
const PIECE: usize = 1 << 14;

/// Writes `x` to `y` where `condition` holds, 0 elsewhere.
///
/// # Errors
/// Tensors of different lengths.
pub fn keep_where(condition: &[bool], x: &[f32], y: &mut [f32], execution: Execution) -> Result<(), String> {
    if condition.len() != x.len() || y.len() != x.len() {
        let found = [condition.len(), y.len()];
        return Err(format!("expected condition and y of {} elements, found {found:?}", x.len()));
    }
    let pieces: Vec<Mutex<&mut [f32]>> = y.chunks_mut(PIECE).map(Mutex::new).collect();
    (execution.spread)(pieces.len(), &|piece| {
        let mut y = pieces[piece].lock().unwrap_or_else(PoisonError::into_inner);
        let range = piece * PIECE..piece * PIECE + y.len();
        dispatch(execution.instructions, Keep { condition: &condition[range.clone()], x: &x[range], y: &mut y });
    });
    Ok(())
}

struct Keep<'a> {
    condition: &'a [bool],
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Job for Keep<'_> {
    #[inline(always)]
    fn run(self) {
        for ((condition, x), y) in self.condition.iter().zip(self.x).zip(self.y) {
            *y = if *condition { *x } else { 0.0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Instructions, Spread, in_turn};
    use super::*;

    #[test]
    fn all_instructions_and_orders_keep_the_same_elements() {
        let backwards = |pieces: usize, work: &(dyn Fn(usize) + Sync)| (0..pieces).rev().for_each(work);
        let x: Vec<f32> = (0..2 * PIECE + 77).map(|i| i as f32 - 999.5).collect();
        let condition: Vec<bool> = (0..x.len()).map(|i| i % 3 == 0 || i % 7 == 0).collect();
        let expected: Vec<f32> = x.iter().zip(&condition).map(|(x, holds)| if *holds { *x } else { 0.0 }).collect();
        for instructions in Instructions::available() {
            for spread in [&in_turn as Spread, &backwards] {
                let mut y = vec![f32::NAN; x.len()];
                keep_where(&condition, &x, &mut y, Execution { instructions, spread }).unwrap();
                assert!(y == expected, "{instructions:?}");
            }
        }
    }
}
