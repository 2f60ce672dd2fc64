//! Recognizes QuantizeLinear and DequantizeLinear nodes of any tool.

use super::{DType, Graph, Node};

/// Returns whether `node` is QuantizeLinear, of the standard or of ONNX Runtime's own domain (which allows 16-bit and
/// 4-bit types below opset 21).
pub fn is_quantize(node: &Node) -> bool {
    is_of_either_domain(node, "QuantizeLinear")
}

/// Returns whether `node` is DequantizeLinear, of the standard or of ONNX Runtime's own domain.
pub fn is_dequantize(node: &Node) -> bool {
    is_of_either_domain(node, "DequantizeLinear")
}

/// Returns whether `graph` is quantized anywhere, by QuantizeLinear and DequantizeLinear or by integer operators.
pub fn is_quantized(graph: &Graph) -> bool {
    const OPERATORS: &[&str] = &["ConvInteger", "MatMulInteger", "MatMulNBits", "QAttention", "QGemm", "QMoE"];
    let op_types = graph.nodes.iter().map(|node| node.op_type.as_str());
    op_types.into_iter().any(|op| {
        OPERATORS.contains(&op)
            || op.starts_with("QLinear")
            || op.contains("Quantize")
            || op.starts_with("MatMulInteger")
    })
}

/// Returns the type that the attribute `output_dtype` of a QuantizeLinear names.
pub fn stated_type(quantize: &Node) -> Option<DType> {
    i32::try_from(quantize.attrs.int("output_dtype", 0)).ok().and_then(DType::from_code)
}

/// Returns the output type of a QuantizeLinear: that of its zero point, else that of `output_dtype`, else uint8.
pub fn quantized_type(graph: &Graph, quantize: &Node) -> DType {
    let zero_point = quantize.input(2).and_then(|id| graph.value(id).dtype);
    zero_point.or_else(|| stated_type(quantize)).unwrap_or(DType::U8)
}

fn is_of_either_domain(node: &Node, op_type: &str) -> bool {
    node.op_type == op_type && matches!(node.domain.as_str(), "" | "com.microsoft")
}
