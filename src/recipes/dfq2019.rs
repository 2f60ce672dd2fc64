//! `dfq2019`: cross-layer equalization, high-bias absorption, rounding to nearest and analytic bias correction.
//!
//! Differs from the paper: clipped rectifiers keep their cap, per channel; scales minimize the squared error instead of
//! covering the full range; synthetic inputs give the mean of a layer's input where no statistics do.

use std::collections::HashMap;

use super::shift::correct_bias;
use super::weights::{Weights, channel_axis, nearest_weights, node_of, rows_of};
use super::{Candidates, Recipe, TrainingBudget};
use crate::calibrate::{CalibrationContext, calibrate, sample};
use crate::error::Result;
use crate::ir::{Graph, ValueId};
use crate::layers::{LayerStep, Scope};
use crate::plan::Plan;
use crate::quant::QuantizedTensor;
use crate::solution::{Biases, Solution, Solved};
use crate::stats::{ClippedNormal, propagate};

pub(super) const RECIPE: Recipe = Recipe {
    name: "dfq2019",
    summary: "equalizes layers, absorbs high biases, rounds to nearest and corrects biases by their expected error",
    citation: "Nagel et al. 2019 (DFQ), sections 4.1 and 4.2",
    equalized: Some(Scope::All),
    run: dfq2019,
    stages: &[],
    budget: TrainingBudget::NONE,
    wants_images: false,
    refits: false,
};

fn dfq2019(candidates: &Candidates, context: &CalibrationContext) -> Result<Solved> {
    let (plan, start) = (&candidates.plan, candidates.preferred());
    let (float, context) = (&start.graph, start.context(context));
    let (activations, sources) = calibrate(float, plan, &context)?;
    let Weights { tensors, enlarged } = nearest_weights(float, plan, &activations, context.threads)?;
    let (corrected, biases) = correct_biases(float, plan, &tensors, &context)?;
    let steps = [start.steps.clone(), corrected].concat();
    let solution = Solution { activations, sources, weights: tensors, enlarged, biases, steps };
    Ok(start.solved(plan, solution))
}

/// Subtracts `Σ ε·E[x]` from every bias, where `ε` is the quantization error of the weight.
fn correct_biases(
    float: &Graph,
    plan: &Plan,
    weights: &[QuantizedTensor],
    context: &CalibrationContext,
) -> Result<(Vec<LayerStep>, Biases)> {
    let moments = match context.norms {
        [] => HashMap::new(),
        norms => propagate(float, norms, &context.input.moments()),
    };
    let known = |id: ValueId| -> Option<Vec<f64>> {
        Some(moments.get(&id)?.0.iter().map(|c: &ClippedNormal| c.moments().0).collect())
    };
    let alone = plan.weight_only.iter().map(|l| (&l.output, &l.name, Some(l.weight)));
    let quantized = plan.layers.iter().map(|l| (&l.output, &l.name, l.weight)).chain(alone);
    let layers: Vec<(usize, String, usize)> =
        quantized.filter_map(|(output, name, weight)| Some((node_of(float, output)?, name.clone(), weight?))).collect();
    let input = |node: usize| float.nodes[node].input(0);
    let unknown: Vec<ValueId> =
        layers.iter().filter_map(|l| input(l.0)).filter(|id| !moments.contains_key(id)).collect();
    let sampled = sample(float, &unknown, context)?;
    let (mut steps, mut biases) = (Vec::new(), Biases::new());
    let inputs: Vec<Option<ValueId>> = layers.iter().map(|l| input(l.0)).collect();
    for ((node, name, weight), x) in layers.into_iter().zip(inputs) {
        let means = x.and_then(|id| known(id).or_else(|| sampled.get(&id).map(|s| s.means(channel_axis(float, node)))));
        let rows = rows_of(float, plan, weight)?.map(|found| found.1);
        let refused = match (means, rows) {
            (Some(means), Some(rows)) if means.len() == 1 || means.len() == rows.input_channels() => {
                let quantized = rows.gather(&weights[weight].dequantize());
                let error: Vec<f32> = quantized.iter().zip(&rows.values).map(|(q, w)| q - w).collect();
                let shift = rows.times(&error, &means);
                let corrected = correct_bias(float, node, &shift, &mut biases)?;
                (!corrected).then(|| "it has no bias, or one of an unknown form".to_owned())
            }
            _ => Some("the mean of its input is not known".to_owned()),
        };
        steps.push(LayerStep::new("bias", name, refused));
    }
    Ok((steps, biases))
}
