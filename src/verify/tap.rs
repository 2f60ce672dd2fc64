//! Taps inner tensors as outputs, and cuts a graph at its quantizers.

use std::collections::HashMap;

use super::structure::Quantizer;
use crate::ir::{DType, Dim, Graph, Tensor, ValueId};
use crate::shape;

/// The location of a tapped tensor after a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TapLocation {
    /// The fed input with this index.
    Input(usize),
    /// The output with this index.
    Output(usize),
}

impl TapLocation {
    /// Returns the tensor among the inputs and outputs of a run.
    pub fn pick<'a>(&self, inputs: &'a [Tensor], outputs: &'a [Tensor]) -> &'a Tensor {
        match *self {
            Self::Input(i) => &inputs[i],
            Self::Output(i) => &outputs[i],
        }
    }
}

/// Returns `graph` with `taps` among its outputs, and their locations. Existing outputs keep their indices.
pub fn tap(graph: &Graph, taps: &[(ValueId, DType)]) -> (Graph, Vec<TapLocation>) {
    let mut exposed = Exposed::of(graph.clone());
    let inputs = first_places(&graph.fed_inputs());
    let mut sources = Vec::with_capacity(taps.len());
    for &(id, dtype) in taps {
        let input = inputs.get(&id).copied();
        sources.push(input.map_or_else(|| TapLocation::Output(exposed.expose(id, dtype)), TapLocation::Input));
    }
    (exposed.graph, sources)
}

/// A graph and where each of its outputs is among them.
struct Exposed {
    graph: Graph,
    places: HashMap<ValueId, usize>,
}

impl Exposed {
    fn of(graph: Graph) -> Self {
        Self { places: first_places(&graph.outputs), graph }
    }

    /// Makes `id` an output if it is not one yet, and returns its index.
    fn expose(&mut self, id: ValueId, dtype: DType) -> usize {
        let value = self.graph.value_mut(id);
        value.dtype = value.dtype.or(Some(dtype));
        value.declared = false;
        *self.places.entry(id).or_insert_with(|| {
            self.graph.outputs.push(id);
            self.graph.outputs.len() - 1
        })
    }
}

/// Returns the first place of each value in `ids`.
fn first_places(ids: &[ValueId]) -> HashMap<ValueId, usize> {
    ids.iter().enumerate().rev().map(|(place, &id)| (id, place)).collect()
}

/// A graph in which no quantizer's result reaches the next one.
#[derive(Clone, Debug)]
pub struct CutGraph {
    /// Its inputs are those of the original, then one tensor of integers per quantizer.
    pub graph: Graph,
    /// The output index of each quantizer's own result.
    pub results: Vec<usize>,
}

/// Returns `graph` with every quantizer's integers as an output, while their readers read a new input instead.
///
/// A run with given integers computes every part between quantizers as the whole model does, but errors of one part do
/// not reach the next: so engines are compared node by node, and each layer's error is isolated.
pub fn cut(graph: &Graph, quantizers: &[Quantizer]) -> CutGraph {
    let mut cut = Exposed::of(graph.clone());
    let mut results = Vec::with_capacity(quantizers.len());
    // ONNX Runtime runs a Scan only where it knows the ranks of what the body reads.
    let has_bodies = graph.nodes.iter().any(|node| node.bodies().next().is_some());
    let facts = if has_bodies { shape::facts(graph).unwrap_or_default() } else { Vec::new() };
    let mut fed_as = HashMap::with_capacity(quantizers.len());
    for quantizer in quantizers {
        let old = quantizer.integers;
        let fed = cut.graph.add_value(&format!("{}_fed", graph.name_of(old)));
        let rank = facts.get(old.index()).and_then(shape::Fact::rank);
        let value = cut.graph.value_mut(fed);
        (value.dtype, value.shape) = (Some(quantizer.dtype), rank.map(|rank| vec![Dim::Unknown; rank]));
        fed_as.entry(old).or_insert(fed);
        cut.graph.inputs.push(fed);
        results.push(cut.expose(old, quantizer.dtype));
    }
    for input in cut.graph.nodes.iter_mut().flat_map(|node| node.inputs.iter_mut()).flatten() {
        *input = fed_as.get(input).copied().unwrap_or(*input);
    }
    CutGraph { graph: cut.graph, results }
}
