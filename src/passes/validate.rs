//! Refuses models with NaN or infinite weights, and models that are quantized already.

use crate::error::{Error, Result};
use crate::ir::{DType, Graph, Tensor};

const QUANTIZED: &[&str] = &[
    "QuantizeLinear",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "QLinearConv",
    "QLinearMatMul",
    "ConvInteger",
    "MatMulInteger",
    "MatMulNBits",
    "QGemm",
    "QLinearAdd",
];

const WEIGHTED: &[&str] = &["Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization"];

/// Checks that a model is a float model with supported inputs and outputs, finite weights and no empty layer tensors.
///
/// # Errors
/// [`Error::Malformed`] naming the tensor, [`Error::Unsupported`] naming the node.
pub fn validate(graph: &Graph) -> Result<()> {
    if let Some(node) = graph.nodes.iter().find(|n| QUANTIZED.contains(&n.op_type.as_str())) {
        return Err(Error::unsupported(
            graph.describe(node),
            "the model is quantized already; give the float original, or check this one with `dfq-onnx verify`",
        ));
    }
    let edges = graph.inputs.iter().chain(&graph.outputs);
    if let Some(id) = edges.copied().find(|&id| graph.value(id).dtype == Some(DType::BF16)) {
        return Err(Error::unsupported(
            format!("tensor \"{}\"", graph.name_of(id)),
            "no second runtime reads inputs and outputs in bfloat16; add a Cast to float32 at the edge of the model",
        ));
    }
    for node in graph.nodes.iter().filter(|n| WEIGHTED.iter().any(|op| n.is(op))) {
        for &id in node.inputs.iter().flatten() {
            let Some(tensor) = graph.constant_of(id) else { continue };
            let is_variance = node.is("BatchNormalization") && node.input(4) == Some(id);
            if let Some(message) = unfit(tensor, is_variance) {
                let place = format!("{}, initializer \"{}\"", graph.describe(node), graph.name_of(id));
                return Err(Error::malformed(place, format!("{message}, export the model again")));
            }
        }
    }
    Ok(())
}

fn unfit(tensor: &Tensor, is_variance: bool) -> Option<String> {
    if tensor.is_empty() {
        return Some(format!("{:?} is empty; a layer needs weights", tensor.shape()));
    }
    if tensor.dtype() != DType::F32 {
        return None;
    }
    let values = tensor.bytes().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b));
    let (at, value) = values.enumerate().find(|(_, v)| !v.is_finite() || is_variance && *v < 0.0)?;
    let rule = if value.is_finite() { "a variance must be 0 or more" } else { "weights must be finite" };
    Some(format!("element {at} of {:?} is {value}; {rule}", tensor.shape()))
}
