//! Reading and writing the bias of a layer.

use crate::error::Result;
use crate::ir::{Graph, Node, Tensor, ValueId};

/// Returns the bias of a layer with `outputs` channels, zeros where it has none; `None` where it is not a constant of
/// one value a channel, where another node reads it too, or where the operator has no bias.
///
/// # Errors
/// When the bias is not floating-point.
pub fn read_bias(graph: &Graph, node: &Node, outputs: usize) -> Result<Option<Vec<f32>>> {
    let Some(id) = node.input(2) else { return Ok((!node.is("MatMul")).then(|| vec![0.0; outputs])) };
    let Some(tensor) = graph.constant_of(id).filter(|_| is_own(graph, id)) else { return Ok(None) };
    let values = tensor.to_f32()?;
    Ok((tensor.shape().len() == 1 && values.len() == outputs).then_some(values))
}

/// Returns the values added to each channel of a layer's result: its bias, or the constant of an Add that is its only
/// reader and that runtimes turn into a bias. One value per channel, or one for all; `None` for other forms.
///
/// # Errors
/// When the constant is not floating-point.
pub fn added_constant(graph: &Graph, node: &Node) -> Result<Option<Vec<f32>>> {
    let constant = match (node.input(2), node.output(0)) {
        (Some(bias), _) => graph.constant_of(bias),
        (None, Some(y)) => {
            let mut readers = graph.nodes.iter().filter(|reader| reader.inputs.contains(&Some(y)));
            let only = readers.next().filter(|reader| reader.is("Add") && readers.next().is_none());
            only.and_then(|add| add.inputs.iter().flatten().find_map(|&id| graph.constant_of(id)))
        }
        (None, None) => None,
    };
    let is_row = |tensor: &&Tensor| tensor.shape().last().is_none_or(|&last| last == tensor.len());
    constant.filter(is_row).map(Tensor::to_f32).transpose()
}

/// Sets the bias of node `index`, a layer with a bias input; returns its constant. A bias that other nodes read is
/// left unchanged, and the layer gets a copy.
pub fn write_bias(graph: &mut Graph, index: usize, values: &[f32]) -> ValueId {
    let tensor = Tensor::from_f32(&[values.len()], values);
    let old = graph.nodes[index].input(2);
    if let Some(id) = old.filter(|&id| is_own(graph, id)) {
        graph.value_mut(id).constant = Some(tensor);
        return id;
    }
    let name = match old {
        Some(id) => graph.name_of(id).to_owned(),
        None => format!("{}_bias", graph.nodes[index].input(1).map_or("layer", |id| graph.name_of(id))),
    };
    let id = graph.add_constant(&name, tensor);
    let inputs = &mut graph.nodes[index].inputs;
    inputs.resize(inputs.len().max(3), None);
    inputs[2] = Some(id);
    id
}

/// Returns whether the bias `id` has a single reader.
fn is_own(graph: &Graph, id: ValueId) -> bool {
    let readers = graph.nodes.iter().flat_map(|n| n.inputs.iter()).filter(|input| **input == Some(id)).count();
    readers == 1 && !graph.outputs.contains(&id)
}

/// Returns the bias of a layer minus `shift`, one value per output channel; `None` where [`read_bias`] cannot read it.
/// Channels that would leave float32 stay as they are.
///
/// # Errors
/// When the bias is not floating-point.
pub fn shifted_bias(graph: &Graph, node: &Node, shift: &[f64]) -> Result<Option<Vec<f32>>> {
    let Some(mut bias) = read_bias(graph, node, shift.len())? else { return Ok(None) };
    for (b, s) in bias.iter_mut().zip(shift) {
        let shifted = (f64::from(*b) - s) as f32;
        if shifted.is_finite() {
            *b = shifted;
        }
    }
    Ok(Some(bias))
}

/// Writes the [`shifted_bias`] of node `index`; returns whether it could be read.
///
/// # Errors
/// When the bias is not floating-point.
pub fn subtract_from_bias(graph: &mut Graph, index: usize, shift: &[f64]) -> Result<bool> {
    let Some(bias) = shifted_bias(graph, &graph.nodes[index], shift)? else { return Ok(false) };
    if bias.iter().any(|&b| b != 0.0) {
        write_bias(graph, index, &bias);
    }
    Ok(true)
}
