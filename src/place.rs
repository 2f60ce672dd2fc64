//! The places of quantizers in a float graph. Emission writes Q/DQ there and training fake-quantizes there, so that what
//! is trained is what is shipped.

use crate::error::{Error, Result};
use crate::ir::{Attrs, Graph, Node, ValueId};
use crate::layers::write_bias;
use crate::plan::{FloatReads, Plan};
use crate::solution::Biases;

/// A float graph in which an Identity stands wherever a tensor goes onto a grid.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The graph, in which each Identity comes behind all other nodes: sort it once they are replaced.
    pub graph: Graph,
    /// The Identity of each activation that goes onto a grid.
    pub activations: Vec<PlacedActivation>,
    /// What the layers of each [`Plan::weights`] read, made by the Identity of that weight; none where no layer does.
    pub weights: Vec<Option<ValueId>>,
}

/// An activation that goes onto a grid.
#[derive(Clone, Copy, Debug)]
pub struct PlacedActivation {
    /// Index into [`Plan::activations`].
    pub grid: usize,
    /// The float tensor.
    pub x: ValueId,
    /// What its readers get: all but those that read floats ([`FloatReads`]), and bodies of control flow, where ONNX Runtime
    /// 1.31 stops at a DequantizeLinear that one of them captures.
    pub y: ValueId,
    /// Whether its integers may lie outside of the grid's bits; what a grid-preserving operator makes may not.
    pub is_root: bool,
}

/// Returns `graph` with the places of `plan`'s quantizers, and with `biases` in its quantized layers.
///
/// # Errors
/// When the plan does not belong to the graph.
pub fn place(graph: &Graph, plan: &Plan, biases: &Biases) -> Result<Placed> {
    let mut placed = Placed { graph: graph.clone(), activations: Vec::new(), weights: vec![None; plan.weights.len()] };
    write_biases(&mut placed.graph, plan, biases)?;
    let float_reads = FloatReads::of(graph, plan);
    for (grid, activation) in plan.activations.iter().enumerate() {
        for name in &activation.quantized {
            let (x, y) = placed.identity(name)?;
            let others = placed.graph.nodes.iter_mut().rev().skip(1);
            let quantized = others.filter(|node| !float_reads.contain(node, x));
            quantized.flat_map(Node::listed_inputs_mut).filter(|i| **i == Some(x)).for_each(|i| *i = Some(y));
            placed.activations.push(PlacedActivation { grid, x, y, is_root: activation.roots.contains(name) });
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
    /// Puts an Identity behind the tensor `name`; returns its input and its output.
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

/// Returns the place in `graph` of the layer that makes the tensor `output`.
///
/// # Errors
/// When no node makes it.
pub fn layer_of(graph: &Graph, output: &str) -> Result<usize> {
    let id = find(graph, output)?;
    let node = graph.nodes.iter().position(|n| n.output(0) == Some(id));
    node.ok_or_else(|| Error::Plan(format!("no node makes \"{output}\", which the plan names")))
}
