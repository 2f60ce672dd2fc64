//! The weights of a model, those whose bits can be chosen and those that something else fixed.

use serde::Serialize;

use super::Solved;
use crate::ir::{Graph, Node};
use crate::plan::{LAYERS, Plan};

/// The bits of one weight.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Allotted {
    /// The layers that read it.
    pub layers: Vec<String>,
    /// Its elements.
    pub elements: u64,
    /// Its bits.
    pub bits: u32,
    /// Whether something else fixed them: the place in the network, `--layer-bits`, or staying float.
    pub fixed: bool,
    /// What each width costs; empty where the bits are fixed.
    pub costs: Vec<WidthCost>,
}

/// What a width of one weight costs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct WidthCost {
    /// The width.
    pub bits: u32,
    /// Its cost with all else float, see [`super::Cost::cost`].
    pub cost: f64,
}

/// A weight and the layers of the plan that read it.
pub(super) struct Weight {
    /// Indices of layers of the plan.
    pub(super) layers: Vec<usize>,
    pub(super) allotted: Allotted,
}

impl Weight {
    /// Returns its bits in all.
    pub(super) fn size(&self) -> u64 {
        self.allotted.elements * u64::from(self.allotted.bits)
    }
}

/// Returns all weights, quantized and float. Those whose bits follow the policy's own are free.
pub(super) fn weights(solved: &[Solved]) -> Vec<Weight> {
    let Some(first) = solved.first() else { return Vec::new() };
    let bits =
        |solved: &Solved, layer: usize| solved.plan.layers[layer].weight.map(|w| solved.plan.weights[w].scheme.bits);
    let mut found: Vec<(usize, Weight)> = Vec::new();
    for (index, layer) in first.plan.layers.iter().enumerate() {
        let Some(weight) = layer.weight else { continue };
        let free = solved.iter().any(|other| bits(other, index) != bits(first, index));
        let name = name_of_one(&first.student, &first.plan, index);
        if let Some((_, known)) = found.iter_mut().find(|(w, known)| *w == weight && known.allotted.fixed != free) {
            known.layers.push(index);
            known.allotted.layers.push(name);
            continue;
        }
        let tensor = &first.solution.weights[weight];
        let allotted = Allotted {
            layers: vec![name],
            elements: count(tensor.bytes.len()),
            bits: tensor.grid.scheme.bits,
            fixed: !free,
            costs: Vec::new(),
        };
        found.push((weight, Weight { layers: vec![index], allotted }));
    }
    found.into_iter().map(|(_, weight)| weight).chain(float_weights(first)).collect()
}

/// Weights of layers that stay float.
fn float_weights(solved: &Solved) -> Vec<Weight> {
    let Solved { student, plan, .. } = solved;
    let planned = |node: &Node| {
        let output = node.output(0).map(|id| student.name_of(id));
        plan.layers.iter().any(|layer| Some(layer.output.as_str()) == output)
    };
    let layers = student.nodes.iter().filter(|node| LAYERS.iter().any(|op| node.is(op)) && !planned(node));
    let weight = |node: &Node| {
        let tensor = student.constant_of(node.input(1)?)?;
        let allotted = Allotted {
            layers: vec![student.name_of(node.output(0)?).to_owned()],
            elements: count(tensor.len()),
            bits: u32::try_from(tensor.dtype().bits()).ok()?,
            fixed: true,
            costs: Vec::new(),
        };
        Some(Weight { layers: Vec::new(), allotted })
    };
    layers.filter_map(weight).collect()
}

/// Returns the layer's name where it names no other layer, else its result's.
fn name_of_one(graph: &Graph, plan: &Plan, layer: usize) -> String {
    let layer = &plan.layers[layer];
    let named = |node: &&Node| {
        let result = node.output(0).map(|id| graph.name_of(id));
        LAYERS.iter().any(|op| node.is(op)) && (node.name == layer.name || result == Some(layer.name.as_str()))
    };
    if graph.nodes.iter().filter(named).count() == 1 { layer.name.clone() } else { layer.output.clone() }
}

fn count(elements: usize) -> u64 {
    u64::try_from(elements).unwrap_or(u64::MAX)
}
