//! The ranked table: every layer (and every grid that other operators read) quantized alone, and left float alone.

use std::collections::BTreeSet;

use serde::Serialize;

use super::{Cost, Labelled, Measure, Part, Reference, partly_quantized};
use crate::error::Result;
use crate::place::{GridRead, grid_reads};
use crate::solution::Solved;

/// The cost of quantization, and the share of each layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sensitivity {
    /// The measure of [`Cost::cost`].
    pub measure: Measure,
    /// The number of compared synthetic samples.
    pub samples: usize,
    /// Nothing quantized: the recipe's changes to float weights.
    pub float: Cost,
    /// Everything quantized.
    pub quantized: Cost,
    /// By [`Share::gain_rank`].
    pub shares: Vec<Share>,
}

/// The share of one layer, or of one grid that other operators read.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Share {
    /// The layer, or the first tensor on the grid.
    pub name: String,
    /// The tensor that the layer makes; none for a grid.
    pub output: Option<String>,
    /// The operator, or those that read the grid.
    pub op_type: String,
    /// Bits of the weight; `None` without a constant one.
    pub weight_bits: Option<u32>,
    /// Bits of the input; `None` if it stays float.
    pub input_bits: Option<u32>,
    /// Only this is quantized.
    pub alone: Cost,
    /// Only its weight is quantized.
    pub weight_alone: Option<Cost>,
    /// Only its input is quantized; `None` if that stays float.
    pub input_alone: Option<Cost>,
    /// Everything but this is quantized.
    pub left_float: Cost,
    /// The decrease of the total cost if this stays float; negative if errors cancel out.
    pub gain: f64,
    /// Rank by `gain`, 1 for the largest.
    pub gain_rank: usize,
    /// On labeled images, if given.
    pub accuracy: Option<Accuracy>,
}

/// Top-1 on labeled images, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Accuracy {
    /// With only this quantized.
    pub alone: f64,
    /// With everything but this quantized.
    pub left_float: f64,
}

/// Returns the cost of every layer: runs four graphs for each, and two more over all `images` if given.
///
/// # Errors
/// When the solution does not belong to the float model, or the engine fails.
pub fn rank(solved: &Solved, reference: &Reference, images: Option<Labelled>) -> Result<Sensitivity> {
    let plan = &solved.plan;
    let cost = |part: &Part| reference.cost(&partly_quantized(solved, part)?);
    let quantized = cost(&Part::of(plan, true))?;
    let mut shares = Vec::new();
    for unit in units(solved) {
        let (alone, left_float) = (unit.set(Part::of(plan, false), true), unit.set(Part::of(plan, true), false));
        let nothing = Part::of(plan, false);
        let input = Part { weights: nothing.weights.clone(), ..alone.clone() };
        let weight = Part { inputs: nothing.inputs.clone(), ..alone.clone() };
        let left = cost(&left_float)?;
        let input_alone = unit.input_bits.map(|_| cost(&input)).transpose()?;
        let weight_alone = unit.weight_bits.map(|_| cost(&weight)).transpose()?;
        let accuracy = |part: &Part, images| reference.accuracy(&partly_quantized(solved, part)?, images);
        let accuracy = |images| -> Result<Accuracy> {
            Ok(Accuracy { alone: accuracy(&alone, images)?, left_float: accuracy(&left_float, images)? })
        };
        shares.push(Share {
            alone: match (weight_alone, input_alone) {
                (Some(only), None) | (None, Some(only)) => only,
                _ => cost(&alone)?,
            },
            weight_alone,
            input_alone,
            gain: quantized.cost - left.cost,
            gain_rank: 0,
            left_float: left,
            accuracy: images.map(accuracy).transpose()?,
            name: unit.name,
            output: unit.output,
            op_type: unit.op_type,
            weight_bits: unit.weight_bits,
            input_bits: unit.input_bits,
        });
    }
    let float = cost(&Part::of(plan, false))?;
    let (measure, samples) = (reference.measure(), reference.samples());
    Ok(Sensitivity { measure, samples, float, quantized, shares: ranked(shares) })
}

fn ranked(mut shares: Vec<Share>) -> Vec<Share> {
    shares.sort_by(|a, b| b.gain.total_cmp(&a.gain));
    for (share, place) in shares.iter_mut().zip(1..) {
        share.gain_rank = place;
    }
    shares
}

/// The index of a unit in the plan.
#[derive(Clone, Copy)]
enum Place {
    /// Index into [`crate::plan::Plan::layers`].
    Layer(usize),
    /// Index into [`crate::plan::Plan::weight_only`].
    WeightAlone(usize),
    /// Index into [`crate::plan::Plan::activations`].
    Grid(usize),
}

/// A unit of quantization: a layer, or the other readers of a grid.
struct Unit {
    name: String,
    output: Option<String>,
    op_type: String,
    weight_bits: Option<u32>,
    input_bits: Option<u32>,
    place: Place,
}

impl Unit {
    /// Returns `part` with or without this unit.
    fn set(&self, mut part: Part, quantized: bool) -> Part {
        match self.place {
            Place::Layer(layer) => (part.weights[layer], part.inputs[layer]) = (quantized, quantized),
            Place::WeightAlone(layer) => part.weights_alone[layer] = quantized,
            Place::Grid(activation) => part.others[activation] = quantized,
        }
        part
    }
}

fn units(solved: &Solved) -> Vec<Unit> {
    let Solved { float, plan, .. } = solved;
    let layers = plan.layers.iter().enumerate().map(|(i, layer)| Unit {
        name: layer.name.clone(),
        output: Some(layer.output.clone()),
        op_type: layer.op_type.clone(),
        weight_bits: layer.weight.map(|weight| plan.weights[weight].scheme.bits),
        input_bits: Some(plan.activations[layer.input].scheme.bits),
        place: Place::Layer(i),
    });
    let alone = plan.weight_only.iter().enumerate().map(|(i, layer)| Unit {
        name: layer.name.clone(),
        output: Some(layer.output.clone()),
        op_type: layer.op_type.clone(),
        weight_bits: Some(plan.weights[layer.weight].scheme.bits),
        input_bits: None,
        place: Place::WeightAlone(i),
    });
    let reads = grid_reads(float, plan);
    let others = plan.activations.iter().enumerate().filter_map(|(index, activation)| {
        let own = |read: &&GridRead| read.activation == index && read.layer.is_none() && !read.keeps_grid;
        let operators: BTreeSet<&str> =
            reads.iter().filter(own).map(|read| float.nodes[read.node].op_type.as_str()).collect();
        (!operators.is_empty()).then(|| Unit {
            name: activation.tensors.first().cloned().unwrap_or_default(),
            output: None,
            op_type: operators.into_iter().collect::<Vec<_>>().join(", "),
            weight_bits: None,
            input_bits: Some(activation.scheme.bits),
            place: Place::Grid(index),
        })
    });
    layers.chain(alone).chain(others).collect()
}
