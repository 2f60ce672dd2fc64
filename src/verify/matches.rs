//! Matches the values of a quantized model with those of its float original.

use super::structure::Quantizer;
use crate::ir::{Graph, Tensor, ValueId};
use crate::outputs::{is_of_variable_size, may_hold_scores};

/// The matching values of both models.
pub struct Matches {
    /// For each fed input of the original, the index of the quantized model's input.
    pub inputs: Vec<usize>,
    /// Indices of outputs in the original and in the quantized model.
    pub outputs: Vec<(usize, usize)>,
    /// For each of these outputs whether it may hold class scores.
    pub scores: Vec<bool>,
    /// Outputs of the original that are not compared, since their size varies between samples.
    pub variable: Vec<ValueId>,
    /// For each quantizer the original's tensor.
    pub tensors: Vec<Option<ValueId>>,
}

/// Returns for each of the values `own` of `graph` the index of its match among the values `others` of another graph:
/// by name, else by order if there are as many.
fn paired(graph: &Graph, own: &[ValueId], other: &Graph, others: &[ValueId]) -> Vec<(usize, usize)> {
    let place = |name: &str| others.iter().position(|&id| other.name_of(id) == name);
    let by_name = |(i, id): (usize, &ValueId)| {
        let found = place(graph.name_of(*id));
        found.or_else(|| (own.len() == others.len()).then_some(i)).map(|other| (i, other))
    };
    own.iter().enumerate().filter_map(by_name).collect()
}

/// Returns `batch`, in the order of `quantized`'s inputs, in the order of `original`'s.
pub fn own_inputs(original: &Graph, quantized: &Graph, batch: &[Tensor]) -> Vec<Tensor> {
    let places = paired(original, &original.fed_inputs(), quantized, &quantized.fed_inputs());
    places.into_iter().map(|(_, place)| batch[place].clone()).collect()
}

impl Matches {
    /// Returns `batch`, in the order of the quantized model's inputs, in the order of the original's.
    pub fn own_inputs(&self, batch: &[Tensor]) -> Vec<Tensor> {
        self.inputs.iter().map(|&i| batch[i].clone()).collect()
    }

    /// Returns the matches by name, and by order for other inputs and outputs.
    pub fn new(original: &Graph, quantized: &Graph, quantizers: &[Quantizer]) -> Self {
        let paired = |own: &[ValueId], others: &[ValueId]| paired(original, own, quantized, others);
        let uses = original.uses();
        let own_inputs = original.fed_inputs();
        let exists = |id: &ValueId| uses.producer(*id).is_some() || own_inputs.contains(id);
        let quantized_uses = quantized.uses();
        let before_cast = |id: ValueId| {
            let maker = &quantized.nodes[quantized_uses.producer(id)?];
            maker.input(0).filter(|_| maker.is("Cast"))
        };
        let tensor = |q: &Quantizer| {
            let ids = std::iter::once(q.input).chain(q.dequantized.iter().copied()).chain(before_cast(q.input));
            let names = ids.map(|id| quantized.name_of(id));
            names.filter_map(|name| original.find(name)).find(exists)
        };
        let mut outputs = paired(&original.outputs, &quantized.outputs);
        let variable = original.outputs.iter().copied().filter(|&id| is_of_variable_size(original, id));
        let variable: Vec<ValueId> = variable.collect();
        outputs.retain(|&(own, _)| !variable.contains(&original.outputs[own]));
        Self {
            inputs: paired(&own_inputs, &quantized.fed_inputs()).into_iter().map(|(_, other)| other).collect(),
            scores: outputs.iter().map(|&(own, _)| may_hold_scores(original, original.outputs[own])).collect(),
            outputs,
            variable,
            tensors: quantizers.iter().map(tensor).collect(),
        }
    }
}
