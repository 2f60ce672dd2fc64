//! `squant`: rounding whose errors cancel over each kernel and each output channel.
//!
//! Differs from the paper: scales minimize the squared error instead of covering the full range, and activation ranges
//! come from batch-normalization statistics instead of uniform noise.

use super::weights::{nearest_weights, rows_of, tensor_of};
use super::{Candidates, Recipe, TrainingBudget};
use crate::calibrate::{CalibrationContext, calibrate};
use crate::error::Result;
use crate::layers::{LayerStep, Rows};
use crate::quant::{FlipLayout, QuantizedTensor, flip};
use crate::solution::Solved;

pub(super) const RECIPE: Recipe = Recipe {
    name: "squant",
    summary: "flips roundings until errors cancel over each kernel and channel",
    citation: "Guo et al. 2022 (SQuant), algorithm 1",
    equalized: None,
    run: squant,
    stages: &[],
    budget: TrainingBudget::NONE,
    wants_images: false,
    refits: false,
};

fn squant(Candidates { plan, plain, .. }: &Candidates, context: &CalibrationContext) -> Result<Solved> {
    let float = &plain.graph;
    let (activations, sources) = calibrate(float, plan, context)?;
    let mut weights = nearest_weights(float, plan, &activations, context.threads)?;
    let mut steps = Vec::new();
    for (index, tensor) in weights.tensors.iter_mut().enumerate() {
        let found = rows_of(float, plan, index)?;
        let refused = found.is_none().then(|| "its weight is of an unknown form".to_owned());
        if let Some((_, rows)) = found {
            *tensor = flipped(&rows, tensor);
        }
        steps.push(LayerStep::new("flip", plan.weights[index].tensor.clone(), refused));
    }
    Ok(plain.solved(plan, weights.solution(activations, sources, steps)))
}

pub(super) fn flipped(rows: &Rows, nearest: &QuantizedTensor) -> QuantizedTensor {
    let grid = nearest.grid.clone();
    let mut integers = rows.gather(&(0..rows.values.len()).map(|i| nearest.integer(i)).collect::<Vec<i32>>());
    let layout = FlipLayout { taps: rows.taps, range: grid.scheme.int_range() };
    let pairs = rows.values.chunks(rows.width()).zip(integers.chunks_mut(rows.width()));
    for (o, (row, integers)) in pairs.enumerate() {
        let channel = if grid.scale.len() == 1 { 0 } else { o };
        let zero_point = grid.zero_point[channel] as f32;
        let targets: Vec<f32> = row.iter().map(|&w| w / grid.scale[channel] + zero_point).collect();
        flip(&targets, integers, layout);
    }
    let bytes: Vec<u8> = integers.iter().map(|q| q.to_le_bytes()[0]).collect();
    tensor_of(rows, grid, &bytes)
}
