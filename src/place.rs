//! The places of quantizers in a float graph: the reads of a tensor that get its quantized values. Emission writes Q/DQ
//! there; training and partial quantization fake-quantize there, so the trained and measured network is the shipped
//! one.

use std::collections::HashMap;

use crate::error::{Error, Result};
use crate::ir::{Attrs, Graph, Node, ValueId};
use crate::layers::write_bias;
use crate::plan::{FloatReads, Plan, preserved_inputs};
use crate::solution::Biases;

/// A float graph with an Identity at every quantizer's place.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The graph. Each Identity comes after all other nodes: sort it once they are replaced.
    pub graph: Graph,
    /// The Identity of each quantized activation.
    pub activations: Vec<PlacedActivation>,
    /// The result of the Identity of each [`Plan::weights`]; `None` for a weight without layers.
    pub weights: Vec<Option<ValueId>>,
}

/// A quantized activation.
#[derive(Clone, Copy, Debug)]
pub struct PlacedActivation {
    /// Index into [`Plan::activations`].
    pub grid: usize,
    /// The float tensor.
    pub x: ValueId,
    /// The tensor that its [`grid_reads`] get.
    pub y: ValueId,
    /// Whether its integers may exceed the grid's bits; results of grid-preserving operators may not.
    pub is_root: bool,
}

/// Returns `graph` with the places of `plan`'s quantizers, and with `biases` in its quantized layers.
///
/// # Errors
/// When the plan does not belong to the graph.
pub fn place(graph: &Graph, plan: &Plan, biases: &Biases) -> Result<Placed> {
    let mut placed = Placed { graph: graph.clone(), activations: Vec::new(), weights: vec![None; plan.weights.len()] };
    write_biases(&mut placed.graph, plan, biases)?;
    let mut quantized: HashMap<ValueId, ValueId> = HashMap::new();
    for (grid, activation) in plan.activations.iter().enumerate() {
        for name in &activation.quantized {
            let (x, y) = placed.identity(name)?;
            quantized.insert(x, y);
            placed.activations.push(PlacedActivation { grid, x, y, is_root: activation.roots.contains(name) });
        }
    }
    for read in grid_reads(graph, plan) {
        if let Some(&y) = quantized.get(&read.x) {
            placed.graph.nodes[read.node].inputs[read.slot] = Some(y);
        }
    }
    for (output, weight) in weighted_layers(plan) {
        let y = match placed.weights[weight] {
            Some(y) => y,
            None => placed.identity(&plan.weights[weight].tensor)?.1,
        };
        placed.weights[weight] = Some(y);
        let node = layer_of(&placed.graph, output)?;
        placed.graph.nodes[node].inputs[1] = Some(y);
    }
    Ok(placed)
}

/// A read of a tensor on a grid that gets the quantized values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GridRead {
    /// The index of the reading node.
    pub node: usize,
    /// The index of its input.
    pub slot: usize,
    /// The tensor.
    pub x: ValueId,
    /// Index into [`Plan::activations`].
    pub activation: usize,
    /// Index into [`Plan::layers`], where the node is one.
    pub layer: Option<usize>,
    /// Whether the node preserves the grid, so its result needs no quantizer.
    pub keeps_grid: bool,
}

/// Returns all reads of tensors on grids that get quantized values, in the order of nodes. The others get floats:
/// [`FloatReads`], and bodies of control flow, since ONNX Runtime 1.31 stops at a DequantizeLinear that one of them
/// captures.
pub fn grid_reads(graph: &Graph, plan: &Plan) -> Vec<GridRead> {
    let mut grids: HashMap<ValueId, usize> = HashMap::new();
    for (index, activation) in plan.activations.iter().enumerate() {
        grids.extend(activation.tensors.iter().filter_map(|name| Some((graph.find(name)?, index))));
    }
    let layers: HashMap<ValueId, usize> =
        plan.layers.iter().enumerate().filter_map(|(i, layer)| Some((graph.find(&layer.output)?, i))).collect();
    let float_reads = FloatReads::of(graph, plan);
    let mut reads = Vec::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        let layer = node.output(0).and_then(|id| layers.get(&id)).copied();
        let kept = node.output(0).and_then(|id| grids.get(&id)).filter(|_| preserved_inputs(graph, node).is_some());
        for (slot, input) in node.inputs[..node.listed_inputs()].iter().enumerate() {
            let Some(x) = *input else { continue };
            let Some(&activation) = grids.get(&x).filter(|_| !float_reads.contain(node, x)) else { continue };
            let keeps_grid = kept == Some(&activation);
            reads.push(GridRead { node: index, slot, x, activation, layer, keeps_grid });
        }
    }
    reads
}

/// Returns the outputs of all layers whose weight is quantized, each with the index of its weight.
fn weighted_layers(plan: &Plan) -> impl Iterator<Item = (&str, usize)> {
    let layers = plan.layers.iter().filter_map(|layer| Some((layer.output.as_str(), layer.weight?)));
    layers.chain(plan.weight_only.iter().map(|layer| (layer.output.as_str(), layer.weight)))
}

fn write_biases(graph: &mut Graph, plan: &Plan, biases: &Biases) -> Result<()> {
    // Layers that share a bias go on to share it where its new values are the same for both.
    let mut shared: Vec<(ValueId, &[f32], ValueId)> = Vec::new();
    for (output, _) in weighted_layers(plan) {
        let Some(values) = biases.get(output) else { continue };
        let node = layer_of(graph, output)?;
        let Some(old) = graph.nodes[node].input(2) else {
            write_bias(graph, node, values);
            continue;
        };
        match shared.iter().find(|(from, same, _)| *from == old && same == values) {
            Some(&(_, _, new)) => graph.nodes[node].inputs[2] = Some(new),
            None => shared.push((old, values, write_bias(graph, node, values))),
        }
    }
    Ok(())
}

impl Placed {
    /// Inserts an Identity after the tensor `name`; returns its input and its output.
    fn identity(&mut self, name: &str) -> Result<(ValueId, ValueId)> {
        let x = find(&self.graph, name)?;
        let y = self.graph.add_value(&format!("{name}_dequantized"));
        self.graph.nodes.push(Node::new("Identity", [x], [y], Attrs::default()));
        Ok((x, y))
    }
}

fn find(graph: &Graph, name: &str) -> Result<ValueId> {
    let found = graph.find(name);
    found.ok_or_else(|| Error::Plan(format!("the plan names tensor \"{name}\", which the graph lacks")))
}

/// Returns the index in `graph` of the layer that produces the tensor `output`.
///
/// # Errors
/// When no node produces it.
pub fn layer_of(graph: &Graph, output: &str) -> Result<usize> {
    let id = find(graph, output)?;
    let node = graph.nodes.iter().position(|n| n.output(0) == Some(id));
    node.ok_or_else(|| Error::Plan(format!("no node makes \"{output}\", which the plan names")))
}
