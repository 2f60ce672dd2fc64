//! Which values of a quantized model and of its float original are the same.

use super::structure::Quantizer;
use crate::ir::{Graph, Tensor, ValueId};
use crate::outputs::{is_of_variable_size, may_hold_scores};

/// Which values of both models are the same.
pub struct Matches {
    /// For each fed input of the original, the place of its tensor among those of the quantized model.
    pub inputs: Vec<usize>,
    /// Places of outputs in the original and in the quantized model.
    pub outputs: Vec<(usize, usize)>,
    /// For each of those whether it may hold class scores.
    pub scores: Vec<bool>,
    /// Outputs of the original that are not compared, since samples have results of their own size.
    pub variable: Vec<ValueId>,
    /// For each quantizer the original's tensor.
    pub tensors: Vec<Option<ValueId>>,
}

/// Returns for each of `own` values of a graph the place of the same one among `others` of another graph: by name, else
/// by order where there are as many.
fn paired(graph: &Graph, own: &[ValueId], other: &Graph, others: &[ValueId]) -> Vec<(usize, usize)> {
    let place = |name: &str| others.iter().position(|&id| other.name_of(id) == name);
    let by_name = |(i, id): (usize, &ValueId)| {
        let found = place(graph.name_of(*id));
        found.or_else(|| (own.len() == others.len()).then_some(i)).map(|other| (i, other))
    };
    own.iter().enumerate().filter_map(by_name).collect()
}

/// Returns `batch`, which is in the order of `quantized`'s inputs, in that of `original`'s.
pub fn own_inputs(original: &Graph, quantized: &Graph, batch: &[Tensor]) -> Vec<Tensor> {
    let places = paired(original, &original.fed_inputs(), quantized, &quantized.fed_inputs());
    places.into_iter().map(|(_, place)| batch[place].clone()).collect()
}

impl Matches {
    /// Returns `batch`, which is in the order of the quantized model's inputs, in that of the original's.
    pub fn own_inputs(&self, batch: &[Tensor]) -> Vec<Tensor> {
        self.inputs.iter().map(|&i| batch[i].clone()).collect()
    }

    /// Returns them, matched by name, and inputs and outputs by their order else.
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
