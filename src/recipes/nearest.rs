//! `nearest`: rounding to nearest on grids with the least squared error, ranges from the teacher's own statistics.

use std::collections::HashMap;

use super::{Recipe, Solution, Teacher};
use crate::calibrate::calibrate;
use crate::error::{Error, Result};
use crate::ir::Graph;
use crate::plan::Plan;
use crate::quant::{ChannelLayout, Grid, quantize_bias, round_to_nearest, weight_grid};

pub(super) const RECIPE: Recipe = Recipe {
    name: "nearest",
    summary: "round to nearest, least-squares scales, activation ranges from batch-normalisation statistics",
    citation: "ranges after Nagel et al. 2019 (DFQ), section 4.2 and appendix C",
    run: nearest,
};

fn nearest(student: &mut Graph, plan: &Plan, teacher: &Teacher) -> Result<Solution> {
    let (activations, sources) = calibrate(student, plan, teacher)?;
    let mut weights = Vec::with_capacity(plan.weights.len());
    let mut enlarged = Vec::new();
    for (index, weight) in plan.weights.iter().enumerate() {
        let constant = student.find(&weight.tensor).and_then(|id| student.constant_of(id));
        let tensor = constant.ok_or_else(|| {
            Error::Plan(format!("the plan names weight \"{}\", which the graph lacks", weight.tensor))
        })?;
        let values = tensor.to_f32()?;
        let mut grid = weight_grid(weight.scheme, &values, ChannelLayout::along(tensor.shape(), weight.scheme.axis));
        let fitting = fit_biases(student, plan, index, &activations, &grid.scale)?;
        let changed = fitting.iter().zip(&grid.scale).filter(|(new, old)| new != old).count();
        if changed > 0 {
            enlarged.push((weight.tensor.clone(), changed));
        }
        grid.scale = fitting;
        weights.push(round_to_nearest(grid, tensor.shape(), &values));
    }
    Ok(Solution { activations, sources, weights, enlarged, corrections: HashMap::new() })
}

/// Returns the scales of weight `index`, enlarged where a bias of one of its layers would overflow int32.
fn fit_biases(student: &Graph, plan: &Plan, index: usize, activations: &[Grid], scale: &[f32]) -> Result<Vec<f32>> {
    let mut scale = scale.to_vec();
    for layer in plan.layers.iter().filter(|l| l.weight == Some(index)) {
        let node = student.maker(&layer.output);
        let Some(bias) = node.and_then(|n| student.constant_of(n.input(2)?)) else { continue };
        let values = bias.to_f32()?;
        if bias.shape().len() == 1 && (scale.len() == 1 || scale.len() == values.len()) {
            scale = quantize_bias(&values, activations[layer.input].scale[0], &scale).weight_scale;
        }
    }
    Ok(scale)
}
