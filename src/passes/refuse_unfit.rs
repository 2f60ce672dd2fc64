//! Refuses models that cannot be quantized for what they hold: weights that are no numbers, grids that are there already.

use crate::error::{Error, Result};
use crate::ir::{DType, Graph};

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

/// Checks that a model is a float model with finite weights and something in every tensor that a layer needs.
///
/// # Errors
/// [`Error::Malformed`] naming the tensor, [`Error::Unsupported`] naming the node.
pub fn refuse_unfit(graph: &Graph) -> Result<()> {
    if let Some(node) = graph.nodes.iter().find(|n| QUANTIZED.contains(&n.op_type.as_str())) {
        return Err(Error::unsupported(
            graph.describe(node),
            "the model is quantized already; give the float original, or check this one with `dfq-onnx verify`",
        ));
    }
    for node in graph.nodes.iter().filter(|n| WEIGHTED.iter().any(|op| n.is(op))) {
        for &id in node.inputs.iter().flatten() {
            let Some(tensor) = graph.constant_of(id).filter(|t| t.dtype() == DType::F32) else { continue };
            let values = tensor.bytes().as_chunks::<4>().0;
            if let Some(at) = values.iter().position(|b| !f32::from_le_bytes(*b).is_finite()) {
                return Err(Error::malformed(
                    format!("{}, initializer \"{}\"", graph.describe(node), graph.name_of(id)),
                    format!(
                        "element {at} of {:?} is {}; weights must be finite, export the model again",
                        tensor.shape(),
                        f32::from_le_bytes(values[at])
                    ),
                ));
            }
        }
    }
    Ok(())
}
