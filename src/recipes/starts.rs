//! Other starting points for the students of a game, so that they do not all make the same mistakes.

use rand::RngExt;

use super::weights::constant;
use crate::error::Result;
use crate::lab::{Lab, QuantizedStudent};
use crate::quant::{ChannelLayout, QuantizedTensor};
use crate::solution::Solved;
use crate::train::step_rng;

/// Separates these random numbers from those of stages.
const STAGE: u64 = 0x7374_6172_7473;

/// Returns the students of the run (`--students`): the first starts as `solved`, the others from weights rounded up or
/// down at random.
///
/// # Errors
/// As [`Lab::student`].
pub(super) fn students(solved: &Solved, lab: &Lab) -> Result<Vec<QuantizedStudent>> {
    let student = |number| lab.student(&format!("student{number}"), &stochastic(solved, lab.context.seed, number)?);
    (0..lab.run.settings.students.unwrap_or(1)).map(student).collect()
}

/// Returns `solved` itself for `number` 0, else with every weight rounded up or down at random: up with a probability that
/// is its distance from the level below (Gupta et al. 2015).
///
/// # Errors
/// When the plan does not belong to the network.
fn stochastic(solved: &Solved, seed: u64, number: u64) -> Result<Solved> {
    let mut found = solved.clone();
    if number == 0 {
        return Ok(found);
    }
    let mut rng = step_rng(seed, STAGE, number);
    for (weight, planned) in found.solution.weights.iter_mut().zip(&solved.plan.weights) {
        let values = constant(&solved.float, &planned.tensor)?.to_f32()?;
        let QuantizedTensor { grid, shape, .. } = &*weight;
        let (layout, (lo, hi)) = (ChannelLayout::along(shape, grid.scheme.axis), grid.scheme.int_range());
        let integer = |(i, &value): (usize, &f32)| -> u8 {
            let channel = layout.channel(i);
            let place = value / grid.scale[channel] + grid.zero_point[channel] as f32;
            let up = rng.random::<f32>() < place - place.floor();
            (place.floor() as i32 + i32::from(up)).clamp(lo, hi).to_le_bytes()[0]
        };
        let bytes: Vec<u8> = values.iter().enumerate().map(integer).collect();
        weight.bytes = bytes.into();
    }
    Ok(found)
}
