//! Parts of a report that follow from the plan, the solution and the student.

use super::{Bytes, LayerCost, Range, Warning};
use crate::error::Result;
use crate::ir::Graph;
use crate::plan::{Activation, Plan, Weight, macs};
use crate::quant::Grid;
use crate::recipes::Solution;
use crate::stats::{InputSource, InputStatistics};

/// Returns the range of every activation grid and where it came from.
pub fn ranges(plan: &Plan, solution: &Solution) -> Vec<Range> {
    let grids = plan.activations.iter().zip(&solution.activations).zip(&solution.sources);
    let range = |((activation, grid), &source): ((&Activation, &Grid), _)| {
        let (lo, hi) = grid.range(0);
        let tensor = activation.tensors.first().cloned().unwrap_or_default();
        Range { tensor, bits: activation.scheme.bits, lo, hi, source }
    };
    grids.map(range).collect()
}

/// Returns size, work and weight error of every quantized layer.
///
/// # Errors
/// When a weight is not floating-point.
pub fn layer_costs(student: &Graph, plan: &Plan, solution: &Solution) -> Result<Vec<LayerCost>> {
    let mut costs = Vec::with_capacity(plan.layers.len());
    for layer in &plan.layers {
        let node = student.maker(&layer.output);
        let weight = layer.weight.map(|i| &solution.weights[i]);
        let float = layer.weight.and_then(|i| student.constant_of(student.find(&plan.weights[i].tensor)?));
        costs.push(LayerCost {
            name: layer.name.clone(),
            op_type: layer.op_type.clone(),
            weight_bits: weight.map(|w| w.grid.scheme.bits),
            input_bits: plan.activations[layer.input].scheme.bits,
            weight_bytes: weight.zip(float).map(|(w, f)| {
                let bits = if plan.target.packs_weights() { w.grid.scheme.packed_type().bits() } else { 8 };
                let bytes = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
                Bytes { float: bytes(f.bytes().len()), quantized: bytes((w.bytes.len() * bits).div_ceil(8)) }
            }),
            macs: node.and_then(|n| macs(student, n)),
            weight_sqnr: match weight.zip(float) {
                Some((weight, float)) => weight.sqnr(&float.to_f32()?),
                None => None,
            },
        });
    }
    Ok(costs)
}

/// Returns how many bits the file takes for an element of a weight, on average.
#[allow(clippy::cast_precision_loss)]
pub fn stored_bits(layers: &[LayerCost]) -> f64 {
    let bytes =
        |of: fn(&Bytes) -> u64| layers.iter().filter_map(|l| l.weight_bytes.as_ref()).map(of).sum::<u64>() as f64;
    // Weights are float32 before.
    32.0 * bytes(|b| b.quantized) / bytes(|b| b.float).max(1.0)
}

/// Returns what the user should know of the input, of what stays float and of what the grids cost.
pub fn warnings(plan: &Plan, solution: &Solution, input: &InputStatistics) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if input.source == InputSource::Assumed {
        warnings.push(Warning::InputAssumed { lo: input.lo, hi: input.hi });
    }
    let layers = plan.float.iter().filter(|f| f.is_layer);
    let stays: Vec<String> = layers.map(|f| format!("{} ({}): {}", f.name, f.op_type, f.reason)).collect();
    if !stays.is_empty() {
        warnings.push(Warning::LayersStayFloat { layers: stays });
    }
    for (weight, channels) in &solution.enlarged {
        warnings.push(Warning::BiasGuard { weight: weight.clone(), channels: *channels });
    }
    for (i, weight) in plan.weights.iter().enumerate() {
        let same = |w: &&Weight| w.tensor == weight.tensor;
        let copies = plan.weights.iter().filter(same).count();
        if copies > 1 && plan.weights.iter().position(|w| w.tensor == weight.tensor) == Some(i) {
            warnings.push(Warning::DuplicatedWeight { weight: weight.tensor.clone(), copies });
        }
    }
    if plan.target.packs_weights() && plan.weights.iter().any(|w| w.scheme.bits <= 4) {
        warnings.push(Warning::PackedWeightsAreNotFaster);
    }
    let bits = plan.fewest_bits();
    if bits <= 4 {
        warnings.push(Warning::FewBits { bits });
    }
    warnings
}
