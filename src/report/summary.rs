//! Parts of a report that follow from the plan, the solution and the student.

use super::inputs::guess;
use super::{Bytes, LayerCost, Range, Warning};
use crate::error::Result;
use crate::ir::{Attr, DType, Graph, Node};
use crate::onnx;
use crate::passes::{Aside, FrozenAxis, is_converted};
use crate::plan::{
    Activation, Cause, ContainerChoice, Layer, Plan, Policy, Weight, WeightOnly, container_choice, macs,
};
use crate::quant::Grid;
use crate::solution::Solution;
use crate::stats::{InputStatistics, KnownInput};
use crate::synthesis::SynthesisReport;
use crate::train::StageReport;
use crate::verify::{LeftOut, Saturation};

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
    let mut costs = Vec::with_capacity(plan.layers.len() + plan.weight_only.len());
    for layer in &plan.layers {
        let Layer { name, op_type, output, input, weight, .. } = layer;
        let input_bits = Some(plan.activations[*input].scheme.bits);
        costs.push(layer_cost(
            student,
            plan,
            solution,
            &Quantized { name, op_type, output, input_bits, weight: *weight },
        )?);
        onnx::release_pages();
    }
    for layer in &plan.weight_only {
        let WeightOnly { name, op_type, output, weight, .. } = layer;
        let layer = Quantized { name, op_type, output, input_bits: None, weight: Some(*weight) };
        costs.push(layer_cost(student, plan, solution, &layer)?);
        onnx::release_pages();
    }
    Ok(costs)
}

/// Returns the average number of bits per weight element in the file.
pub fn stored_bits(layers: &[LayerCost]) -> f64 {
    let bytes =
        |of: fn(&Bytes) -> u64| layers.iter().filter_map(|l| l.weight_bytes.as_ref()).map(of).sum::<u64>() as f64;
    // Weights are float32 before.
    32.0 * bytes(|b| b.quantized) / bytes(|b| b.float).max(1.0)
}

/// A layer with a quantized input, weight or both.
struct Quantized<'a> {
    name: &'a str,
    op_type: &'a str,
    output: &'a str,
    input_bits: Option<u32>,
    /// The index of its weight in the plan.
    weight: Option<usize>,
}

fn layer_cost(student: &Graph, plan: &Plan, solution: &Solution, layer: &Quantized) -> Result<LayerCost> {
    let Quantized { name, op_type, output, input_bits, weight: index } = *layer;
    let weight = index.map(|i| &solution.weights[i]);
    let float = index.and_then(|i| student.constant_of(student.find(&plan.weights[i].tensor)?));
    let bytes = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    Ok(LayerCost {
        name: name.to_owned(),
        op_type: op_type.to_owned(),
        weight_bits: weight.map(|w| w.grid.scheme.bits),
        input_bits,
        weight_bytes: index.zip(weight).zip(float).map(|((i, w), f)| {
            let bits = if plan.weights[i].packed { w.grid.scheme.packed_type().bits() } else { 8 };
            Bytes { float: bytes(f.bytes().len()), quantized: bytes((w.bytes.len() * bits).div_ceil(8)) }
        }),
        macs: student.maker(output).and_then(|n| macs(student, n)),
        weight_sqnr: match weight.zip(float) {
            Some((weight, float)) => weight.sqnr(&float.to_f32()?),
            None => None,
        },
    })
}

/// Returns the storage type of weights with the reason, and the size with the other type.
pub fn container(policy: &Policy, plan: &Plan, solution: &Solution) -> ContainerChoice {
    let elements: Vec<usize> = solution.weights.iter().map(|w| w.bytes.len()).collect();
    let packs = policy.target.choices().packs;
    let readers = plan.layers.iter().map(|l| (l.weight, &l.op_type));
    let readers = readers.chain(plan.weight_only.iter().map(|l| (Some(l.weight), &l.op_type)));
    let mut packable = vec![false; plan.weights.len()];
    for (weight, op_type) in readers {
        if let Some(i) = weight {
            packable[i] |= plan.weights[i].scheme.bits <= 4 && packs.contains(&op_type.as_str());
        }
    }
    container_choice(policy, &plan.weights, &elements, &packable)
}

/// Returns the warnings about training.
pub fn training_warnings(stages: &[StageReport], is_dry: bool) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let mut operators: Vec<String> = Vec::new();
    for operator in stages.iter().flat_map(|stage| &stage.blocked) {
        if !operators.contains(operator) {
            operators.push(operator.clone());
        }
    }
    if !operators.is_empty() {
        warnings.push(Warning::NotDifferentiable { operators });
    }
    let descents = || stages.iter().flat_map(|stage| &stage.descents);
    let steps: Vec<u64> = descents().flat_map(|d| d.rollbacks.iter().map(|rollback| rollback.at)).collect();
    if !steps.is_empty() {
        warnings.push(Warning::TrainingDiverged { steps });
    }
    let [done, planned] = [0, 1].map(|i| stages.iter().map(|stage| stage.steps()[i]).sum());
    if !is_dry && done < planned {
        warnings.push(Warning::TimeIsUp { done, planned });
    }
    warnings
}

/// Returns the warning about few bits without training.
pub fn few_bits(plan: &Plan, is_trained: bool) -> Option<Warning> {
    let bits = plan.fewest_bits();
    (bits <= 4 && !is_trained).then_some(Warning::FewBits { bits })
}

/// Returns the warning about images whose synthesis ended too early.
pub fn images_warning(images: &SynthesisReport) -> Option<Warning> {
    let [done, planned] = images.steps();
    (!images.is_of_use()).then_some(Warning::ImagesCutShort { done, planned })
}

/// Returns the warnings about runtimes that took no part in the checks.
pub fn left_out_warnings(left_out: &[LeftOut]) -> Vec<Warning> {
    let one = |l: &LeftOut| Warning::RuntimeLeftOut { runtime: l.engine.clone(), reason: l.reason.clone() };
    left_out.iter().map(one).collect()
}

/// Returns the warning about sums that saturate on x86 processors without VNNI, where that made results wrong in the
/// checks; `lacks_vnni` is whether this machine is one.
pub fn saturation_warnings(plan: &Plan, saturation: &[Saturation], lacks_vnni: bool) -> Option<Warning> {
    let choices = plan.target.choices();
    let found = || saturation.iter().filter(|s| s.wrong_results > 0);
    let total = |of: fn(&Saturation) -> u64| found().map(of).sum::<u64>() as f64;
    let worst = found().max_by(|a, b| a.relative_rms.total_cmp(&b.relative_rms))?;
    (choices.runs_on_x86 && choices.quantizes_outputs).then(|| Warning::PairSaturation {
        layers: found().count(),
        wrong_percent: 100.0 * total(|s| s.wrong_results) / total(|s| s.results),
        worst: worst.layer.clone(),
        relative_rms: worst.relative_rms,
        here: lacks_vnni,
    })
}

/// Returns the weights that quantized layers share with nodes that stay float.
pub fn float_copies(student: &Graph, plan: &Plan) -> Vec<Warning> {
    let quantized = |node: &Node| {
        let name = node.output(0).map(|id| student.name_of(id));
        let mut outputs = plan.layers.iter().map(|l| &l.output).chain(plan.weight_only.iter().map(|l| &l.output));
        outputs.any(|output| Some(output.as_str()) == name)
    };
    let mut weights: Vec<&str> = plan.weights.iter().map(|w| w.tensor.as_str()).collect();
    weights.sort_unstable();
    weights.dedup();
    let warning = |weight: &str| {
        let id = student.find(weight)?;
        let readers = student.nodes.iter().filter(|n| n.inputs.contains(&Some(id)) && !quantized(n));
        let readers: Vec<String> = readers.map(|n| student.describe(n)).collect();
        (!readers.is_empty()).then(|| Warning::WeightStaysFloatToo { weight: weight.to_owned(), readers })
    };
    weights.into_iter().filter_map(warning).collect()
}

/// Returns the warning about a model that is not in float32.
pub fn conversion(original: &Graph) -> Option<Warning> {
    let values = original.value_ids().map(|id| original.value(id));
    let mut types: Vec<DType> = values.filter_map(|v| v.dtype).filter(|&dtype| is_converted(dtype)).collect();
    let initializers = original.value_ids().filter_map(|id| original.constant_of(id));
    let attributes = original.nodes.iter().flat_map(|n| n.attrs.iter()).filter_map(|(_, attr)| match attr {
        Attr::Tensor(tensor) => Some(tensor),
        _ => None,
    });
    let (mut stored, mut float32) = (0, 0);
    for tensor in initializers.chain(attributes).filter(|t| is_converted(t.dtype())) {
        types.push(tensor.dtype());
        stored += tensor.bytes().len();
        float32 += tensor.len() * size_of::<f32>();
    }
    types.sort_unstable();
    types.dedup();
    let from: Vec<String> = types.iter().map(ToString::to_string).collect();
    (!from.is_empty()).then_some(Warning::FloatsConverted { from, stored, float32 })
}

/// Returns the warnings about guessed inputs, float layers, and the cost of grids.
pub fn warnings(plan: &Plan, solution: &Solution, inputs: &[KnownInput], statistics: &InputStatistics) -> Vec<Warning> {
    let mut warnings: Vec<Warning> = guess(inputs, statistics, plan).into_iter().collect();
    let layers = plan.float.iter().filter(|f| f.cause == Cause::Form);
    let stays: Vec<String> = layers.map(|f| format!("{} ({}): {}", f.name, f.op_type, f.reason)).collect();
    if !stays.is_empty() {
        warnings.push(Warning::LayersStayFloat { layers: stays });
    }
    if !solution.enlarged.is_empty() {
        warnings.push(Warning::BiasGuard { weights: solution.enlarged.clone() });
    }
    for (i, weight) in plan.weights.iter().enumerate() {
        let same = |w: &&Weight| w.tensor == weight.tensor;
        let copies = plan.weights.iter().filter(same).count();
        if copies > 1 && plan.weights.iter().position(|w| w.tensor == weight.tensor) == Some(i) {
            warnings.push(Warning::DuplicatedWeight { weight: weight.tensor.clone(), copies });
        }
    }
    if plan.weights.iter().any(|w| w.packed) && plan.weight_only.is_empty() {
        warnings.push(Warning::PackedWeightsAreNotFaster);
    }
    if let Some(runtime) = plan.target.choices().unchecked_runtime {
        warnings.push(Warning::RuntimeNotRun { runtime });
    }
    warnings
}

/// Returns the warning that operators were not run.
pub fn aside_warning(aside: &Aside) -> Warning {
    Warning::OperatorsNotRun { operators: aside.operators.clone(), layers: aside.layers.clone() }
}

/// Returns the warning that branches of an If may not have been seen, where one stays.
pub fn branch_warning(student: &Graph) -> Option<Warning> {
    let nodes: Vec<String> = student.nodes.iter().filter(|n| n.is("If")).map(|n| student.describe(n)).collect();
    (!nodes.is_empty()).then_some(Warning::BranchesNotSeen { nodes })
}

/// Returns the warning that axes were fixed, where any were.
pub fn frozen_warning(axes: &[FrozenAxis]) -> Option<Warning> {
    let axis = |a: &FrozenAxis| format!("axis {} of \"{}\" (size {})", a.axis, a.input, a.size);
    (!axes.is_empty()).then(|| Warning::AxesFrozen { axes: axes.iter().map(axis).collect() })
}
