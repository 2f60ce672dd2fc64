//! Reading and writing the bias of a layer.

use crate::error::Result;
use crate::ir::{Graph, Node, Tensor};

/// Returns the bias of a layer with `outputs` channels, zeros where it has none; `None` where it is no constant of one
/// value a channel, where another node reads it too, or where the operator has no bias.
///
/// # Errors
/// When the bias is not floating-point.
pub fn read_bias(graph: &Graph, node: &Node, outputs: usize) -> Result<Option<Vec<f32>>> {
    let Some(id) = node.input(2) else { return Ok((!node.is("MatMul")).then(|| vec![0.0; outputs])) };
    let readers = graph.nodes.iter().flat_map(|n| n.inputs.iter()).filter(|input| **input == Some(id)).count();
    let own = readers == 1 && !graph.outputs.contains(&id);
    let Some(tensor) = graph.constant_of(id).filter(|_| own) else { return Ok(None) };
    let values = tensor.to_f32()?;
    Ok((tensor.shape().len() == 1 && values.len() == outputs).then_some(values))
}

/// Returns what is added to each channel of a layer's result: its bias, or the constant of an Add that alone reads the
/// result, which runtimes make a bias of. One value a channel, or one for all; `None` where neither is of that form.
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

/// Sets the bias of node `index`, which [`read_bias`] could read.
pub fn write_bias(graph: &mut Graph, index: usize, values: &[f32]) {
    let tensor = Tensor::from_f32(&[values.len()], values);
    match graph.nodes[index].input(2) {
        Some(id) => graph.value_mut(id).constant = Some(tensor),
        None => {
            let weight = graph.nodes[index].input(1).map_or("layer", |id| graph.name_of(id)).to_owned();
            let id = graph.add_constant(&format!("{weight}_bias"), tensor);
            graph.nodes[index].inputs.resize(3, None);
            graph.nodes[index].inputs[2] = Some(id);
        }
    }
}

/// Subtracts `shift`, one value an output channel, from the bias of node `index`; tells whether that was possible.
/// Channels that would leave float32 stay as they are.
///
/// # Errors
/// When the bias is not floating-point.
pub fn subtract_from_bias(graph: &mut Graph, index: usize, shift: &[f64]) -> Result<bool> {
    let Some(mut bias) = read_bias(graph, &graph.nodes[index], shift.len())? else { return Ok(false) };
    for (b, s) in bias.iter_mut().zip(shift) {
        let corrected = (f64::from(*b) - s) as f32;
        if corrected.is_finite() {
            *b = corrected;
        }
    }
    if bias.iter().any(|&b| b != 0.0) {
        write_bias(graph, index, &bias);
    }
    Ok(true)
}
