//! The weights of a model, with free or fixed bits.

use std::collections::HashMap;

use serde::Serialize;

use crate::ir::{Graph, Node};
use crate::plan::is_layer;
use crate::solution::Solved;

/// The bits of one weight.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Allotted {
    /// The layers that read it.
    pub layers: Vec<String>,
    /// Its elements.
    pub elements: u64,
    /// Its bits.
    pub bits: u32,
    /// Whether they are fixed by the position in the network, `--layer-bits`, or staying float.
    pub fixed: bool,
    /// The cost of each width; empty if the bits are fixed.
    pub costs: Vec<WidthCost>,
}

/// The cost of a width of one weight.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct WidthCost {
    /// The width.
    pub bits: u32,
    /// Its cost with all else float, see [`super::Cost::cost`].
    pub cost: f64,
}

/// A weight and the layers of the plan that read it.
pub(super) struct Weight {
    /// The outputs of those layers.
    pub(super) outputs: Vec<String>,
    pub(super) allotted: Allotted,
}

impl Weight {
    /// Returns its total bits.
    pub(super) fn size(&self) -> u64 {
        self.allotted.elements * u64::from(self.allotted.bits)
    }
}

/// A layer with a quantized weight, its input quantized or not.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    name: &'a str,
    pub(super) output: &'a str,
    /// Index into [`crate::plan::Plan::weights`].
    weight: usize,
}

/// Returns the layers with quantized weights in graph order.
pub(super) fn weight_readers(solved: &Solved) -> Vec<Reader<'_>> {
    let Solved { float, plan, .. } = solved;
    let layers = plan.layers.iter().filter_map(|l| Some((&l.name, &l.output, l.weight?)));
    let alone = plan.weight_only.iter().map(|l| (&l.name, &l.output, l.weight));
    let readers = layers.chain(alone).map(|(name, output, weight)| (output.as_str(), Reader { name, output, weight }));
    let readers: HashMap<&str, Reader> = readers.collect();
    let outputs = float.nodes.iter().filter_map(|node| node.output(0));
    outputs.filter_map(|id| readers.get(float.name_of(id)).copied()).collect()
}

/// Returns all weights, quantized and float. Those whose bits follow the policy's own are free.
pub(super) fn weights(solved: &[Solved]) -> Vec<Weight> {
    let Some(first) = solved.first() else { return Vec::new() };
    let bits = |solved: &Solved, reader: &Reader| solved.plan.weights[reader.weight].scheme.bits;
    let others: Vec<HashMap<&str, u32>> = solved
        .iter()
        .map(|other| weight_readers(other).iter().map(|reader| (reader.output, bits(other, reader))).collect())
        .collect();
    let mut found: Vec<(usize, Weight)> = Vec::new();
    for reader in weight_readers(first) {
        let free = others.iter().any(|other| other.get(reader.output) != Some(&bits(first, &reader)));
        let name = name_of_one(&first.float, &reader);
        if let Some((_, known)) =
            found.iter_mut().find(|(w, known)| *w == reader.weight && known.allotted.fixed != free)
        {
            known.outputs.push(reader.output.to_owned());
            known.allotted.layers.push(name);
            continue;
        }
        let tensor = &first.solution.weights[reader.weight];
        let allotted = Allotted {
            layers: vec![name],
            elements: count(tensor.bytes.len()),
            bits: tensor.grid.scheme.bits,
            fixed: !free,
            costs: Vec::new(),
        };
        found.push((reader.weight, Weight { outputs: vec![reader.output.to_owned()], allotted }));
    }
    found.into_iter().map(|(_, weight)| weight).chain(float_weights(first)).collect()
}

/// Weights of layers that stay float.
fn float_weights(solved: &Solved) -> Vec<Weight> {
    let Solved { float, .. } = solved;
    let readers = weight_readers(solved);
    let planned = |node: &Node| {
        let output = node.output(0).map(|id| float.name_of(id));
        readers.iter().any(|reader| Some(reader.output) == output)
    };
    let layers = float.nodes.iter().filter(|node| is_layer(node) && !planned(node));
    let weight = |node: &Node| {
        let tensor = float.constant_of(node.input(1)?)?;
        let allotted = Allotted {
            layers: vec![float.name_of(node.output(0)?).to_owned()],
            elements: count(tensor.len()),
            bits: u32::try_from(tensor.dtype().bits()).ok()?,
            fixed: true,
            costs: Vec::new(),
        };
        Some(Weight { outputs: Vec::new(), allotted })
    };
    layers.filter_map(weight).collect()
}

/// Returns the layer's name if unique, else that of its result.
fn name_of_one(graph: &Graph, reader: &Reader) -> String {
    let named = |node: &&Node| {
        let result = node.output(0).map(|id| graph.name_of(id));
        is_layer(node) && (node.name == reader.name || result == Some(reader.name))
    };
    if graph.nodes.iter().filter(named).count() == 1 { reader.name.to_owned() } else { reader.output.to_owned() }
}

fn count(elements: usize) -> u64 {
    u64::try_from(elements).unwrap_or(u64::MAX)
}
