//! The float network with part of a solution in it, fake-quantized in floating point: the values that the emitted file
//! computes, without Q/DQ pairs, beside which ONNX Runtime's default options quantize float weights (seen in 1.31).

use std::collections::HashMap;

use crate::error::Result;
use crate::ir::{Attrs, Graph, Node, Tensor, ValueId};
use crate::layers::write_bias;
use crate::place::{grid_reads, layer_of};
use crate::plan::Plan;
use crate::quant::{Grid, quantize_bias};
use crate::solution::Solved;

/// The quantized part; everything else stays float.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Per layer of the plan: its weight.
    pub weights: Vec<bool>,
    /// Per layer of the plan: its input.
    pub inputs: Vec<bool>,
    /// Per weight-only layer of the plan: its weight.
    pub weights_alone: Vec<bool>,
    /// Per activation of the plan: its reads by operators other than layers.
    pub others: Vec<bool>,
}

impl Part {
    /// Returns the whole plan (`true`) or nothing of it (`false`).
    pub fn of(plan: &Plan, quantized: bool) -> Self {
        let (layers, activations) = (plan.layers.len(), plan.activations.len());
        Self {
            weights: vec![quantized; layers],
            inputs: vec![quantized; layers],
            weights_alone: vec![quantized; plan.weight_only.len()],
            others: vec![quantized; activations],
        }
    }

    /// Adds the weight of the layer with this `output`.
    pub fn add_weight(&mut self, plan: &Plan, output: &str) {
        let layers = plan.layers.iter().map(|l| &l.output).zip(&mut self.weights);
        let alone = plan.weight_only.iter().map(|l| &l.output).zip(&mut self.weights_alone);
        layers.chain(alone).filter(|(name, _)| *name == output).for_each(|(_, is_in)| *is_in = true);
    }
}

/// Returns the float network with `part` of the solution in it. A bias of the solution goes with the weight that it was
/// made for; it is on its int32 grid where both weight and input are quantized.
///
/// # Errors
/// When the plan or the solution does not belong to the float network.
pub fn partly_quantized(solved: &Solved, part: &Part) -> Result<Graph> {
    let Solved { float, plan, solution, .. } = solved;
    let mut made = Partial { graph: float.clone(), solved, weights: HashMap::new() };
    for (place, layer) in plan.layers.iter().enumerate() {
        let Some(weight) = layer.weight.filter(|_| part.weights[place]) else { continue };
        let node = made.quantize_weight(&layer.output, weight)?;
        if part.inputs[place] && plan.target.choices().quantizes_biases {
            made.quantize_bias(node, solution.activations[layer.input].scale[0], weight)?;
        }
    }
    for (layer, _) in plan.weight_only.iter().zip(&part.weights_alone).filter(|(_, is_in)| **is_in) {
        made.quantize_weight(&layer.output, layer.weight)?;
    }
    let mut graph = made.graph;
    let mut quantized: HashMap<ValueId, ValueId> = HashMap::new();
    // Quantizes behind operators that keep a grid, since some of their readers may be outside of the part.
    for read in grid_reads(float, plan).into_iter().filter(|read| !read.keeps_grid) {
        let is_in = match read.layer {
            Some(layer) => part.inputs[layer],
            None => part.others[read.activation],
        };
        if is_in {
            let grid = &solution.activations[read.activation];
            let id = *quantized.entry(read.x).or_insert_with(|| fake_quantized(&mut graph, read.x, grid));
            graph.nodes[read.node].inputs[read.slot] = Some(id);
        }
    }
    graph.sort()?;
    graph.sweep();
    Ok(graph)
}

/// A float network that gets parts of a solution.
struct Partial<'a> {
    graph: Graph,
    solved: &'a Solved,
    /// The dequantized weights, by their index in the plan.
    weights: HashMap<usize, ValueId>,
}

impl Partial<'_> {
    /// Gives the layer that makes `output` its quantized weight and its bias in the solution; returns its node.
    fn quantize_weight(&mut self, output: &str, index: usize) -> Result<usize> {
        let Self { graph, solved: Solved { plan, solution, .. }, weights } = self;
        let node = layer_of(graph, output)?;
        if let Some(bias) = solution.biases.get(output) {
            write_bias(graph, node, bias);
        }
        let dequantized = weights.entry(index).or_insert_with(|| {
            let weight = &solution.weights[index];
            let values = Tensor::from_f32(&weight.shape, &weight.dequantize());
            graph.add_constant(&format!("{}_quantized", plan.weights[index].tensor), values)
        });
        graph.nodes[node].inputs[1] = Some(*dequantized);
        Ok(node)
    }

    /// Quantizes the bias of a layer to its int32 grid, if it is a constant vector.
    fn quantize_bias(&mut self, node: usize, input_scale: f32, weight: usize) -> Result<()> {
        let constant = self.graph.nodes[node].input(2).and_then(|bias| self.graph.constant_of(bias));
        let Some(bias) = constant.filter(|tensor| tensor.shape().len() == 1) else { return Ok(()) };
        let weight_scale = &self.solved.solution.weights[weight].grid.scale;
        let quantized = quantized_bias(&bias.to_f32()?, input_scale, weight_scale);
        write_bias(&mut self.graph, node, &quantized);
        Ok(())
    }
}

/// Returns a bias on its int32 grid in the file, or unchanged if it has none.
fn quantized_bias(bias: &[f32], input_scale: f32, weight_scale: &[f32]) -> Vec<f32> {
    if weight_scale.len() != 1 && weight_scale.len() != bias.len() {
        return bias.to_vec();
    }
    let guarded = quantize_bias(bias, input_scale, weight_scale);
    let scale = |channel: usize| guarded.scale[if guarded.scale.len() == 1 { 0 } else { channel }];
    guarded.integers.iter().enumerate().map(|(channel, &q)| q as f32 * scale(channel)).collect()
}

/// Adds `clip(round(x / scale), lo, hi) * scale`, which is what QuantizeLinear and DequantizeLinear make of `x`.
fn fake_quantized(graph: &mut Graph, x: ValueId, grid: &Grid) -> ValueId {
    let name = graph.name_of(x).to_owned();
    let (lo, hi) = grid.scheme.int_range();
    let ends = [lo - grid.zero_point[0], hi - grid.zero_point[0]].map(|end| end as f32);
    let [scale, lo, hi] = [("scale", grid.scale[0]), ("lo", ends[0]), ("hi", ends[1])]
        .map(|(what, value)| graph.add_constant(&format!("{name}_{what}"), Tensor::from_f32(&[], &[value])));
    let mut push = |op: &str, inputs: &[ValueId]| {
        let id = graph.add_value(&format!("{name}_{}", op.to_lowercase()));
        graph.nodes.push(Node::new(op, inputs.iter().copied(), [id], Attrs::default()));
        id
    };
    let steps = push("Div", &[x, scale]);
    let rounded = push("Round", &[steps]);
    let clipped = push("Clip", &[rounded, lo, hi]);
    push("Mul", &[clipped, scale])
}
