//! Rules of the format itself, and of the arithmetic that every integer kernel shares.

use super::view::{View, is_16_bit, is_blocked, is_packed};
use super::{Findings, Rule, error, warning};
use crate::audit::BIAS_SCALE_TOLERANCE;
use crate::ir::{DType, Node, Tensor, front_axis};
use crate::plan::{PACKED_OPSET, PER_CHANNEL_OPSET, Target, channel_axis};

pub(super) const RULES: &[Rule] = &[
    error("operator-set", &Target::ALL, operator_set),
    error("zero-point-type", &Target::ALL, zero_point_type),
    error("scale-axis", &Target::ALL, scale_axis),
    error("scale-value", &Target::ALL, scale_value),
    error("bias-zero-point", &Target::ALL, bias_zero_point),
    warning("weight-axis", &Target::ALL, weight_axis),
    warning("bias-scale", INTEGER_BIASES, bias_scale),
];

const INTEGER_BIASES: &[Target] = &[Target::Onnx, Target::OrtCpu, Target::OpenVino, Target::Portable];
/// Operator set of 8-bit floating-point types.
const FLOAT8_OPSET: i64 = 19;
/// Operator set of 2-bit types.
const TWO_BIT_OPSET: i64 = 25;

fn operator_set(view: &View, findings: &mut Findings) {
    for node in view.pairs().filter(|node| node.domain.is_empty()) {
        let dtype = view.integers(node);
        let needed = match dtype {
            Some(DType::I2 | DType::U2) => (TWO_BIT_OPSET, "2-bit types"),
            _ if is_packed(dtype) || is_16_bit(dtype) => (PACKED_OPSET, "4-bit and 16-bit types"),
            _ if is_blocked(view, node) => (PACKED_OPSET, "scales in blocks"),
            _ if node.attrs.get("output_dtype").is_some() => (PACKED_OPSET, "the attribute output_dtype"),
            Some(DType::F8E4M3FN | DType::F8E4M3FNUZ | DType::F8E5M2 | DType::F8E5M2FNUZ) => {
                (FLOAT8_OPSET, "8-bit floating-point types")
            }
            _ if view.scale(node).is_some_and(|scale| scale.len() > 1) => (PER_CHANNEL_OPSET, "one scale per channel"),
            _ => continue,
        };
        let found = view.graph.opset();
        if found < needed.0 {
            let message = format!("{} need operator set {}, the file has {found}; raise it", needed.1, needed.0);
            findings.push(view, node, message);
        }
    }
}

fn zero_point_type(view: &View, findings: &mut Findings) {
    for node in view.pairs() {
        let Some(zero) = node.input(2).and_then(|id| view.graph.constant_of(id)) else { continue };
        let data = node.input(0).and_then(|id| view.graph.constant_of(id)).map(|t| t.dtype());
        let quantize = view.operand(node.output(0)).and_then(|operand| operand.quantize);
        let data = data.or_else(|| quantize.and_then(|q| view.integers(q))).unwrap_or(zero.dtype());
        if data != zero.dtype() {
            let message = format!("the zero point is {}, the integers are {data}; give both one type", zero.dtype());
            findings.push(view, node, message);
        }
        // A scalar and a vector of one element are taken for the same by every runtime.
        let differs = |scale: &&Tensor| scale.shape() != zero.shape() && (scale.len() > 1 || zero.len() > 1);
        if let Some(scale) = view.scale(node).filter(differs) {
            let (zeros, scales) = (zero.shape(), scale.shape());
            findings.push(view, node, format!("{zeros:?} zero points for {scales:?} scales; give one per scale"));
        }
    }
}

fn scale_axis(view: &View, findings: &mut Findings) {
    for node in view.pairs().filter(|node| !is_blocked(view, node)) {
        let Some(scales) = view.scale(node).map(|scale| scale.len()).filter(|&n| n > 1) else { continue };
        let Some(shape) = node.input(0).and_then(|id| view.graph.value(id).static_shape()) else { continue };
        let axis = node.attrs.int("axis", 1);
        let size = shape_at(&shape, axis);
        if size != Some(scales) {
            let message = format!(
                "{scales} scales along axis {axis} of a tensor {shape:?}; set axis to that of {scales} (left out, it \
                 is 1)"
            );
            findings.push(view, node, message);
        }
    }
}

fn shape_at(shape: &[usize], axis: i64) -> Option<usize> {
    shape.get(front_axis(axis, shape.len())?).copied()
}

fn scale_value(view: &View, findings: &mut Findings) {
    for node in view.pairs() {
        let scales = view.scales(node).unwrap_or_default();
        if let Some(scale) = scales.iter().find(|s| !s.is_finite() || **s <= 0.0) {
            findings.push(view, node, format!("a scale is {scale}; scales are positive (1 for a channel of zeros)"));
        }
    }
}

fn is_bias(view: &View, node: &Node) -> bool {
    view.integers(node) == Some(DType::I32)
}

fn bias_zero_point(view: &View, findings: &mut Findings) {
    for node in view.pairs().filter(|node| is_bias(view, node) && view.has_zero_point_other_than_0(node)) {
        findings.push(view, node, "int32 integers have no zero point; leave it out, or make it 0");
    }
}

fn weight_axis(view: &View, findings: &mut Findings) {
    for layer in view.layers() {
        let Some(weight) = layer.weight else { continue };
        let (Some(stored), Some(scale)) = (weight.stored, view.scale(weight.dequantize)) else { continue };
        if scale.shape().len() != 1 || scale.len() == 1 || is_blocked(view, weight.dequantize) {
            continue;
        }
        let rank = stored.shape().len();
        let axis = front_axis(weight.dequantize.attrs.int("axis", 1), rank);
        if let Some(expected) = channel_axis(layer.node, rank).filter(|&expected| axis != Some(expected)) {
            let op = &layer.node.op_type;
            let message = format!(
                "scales lie along axis {axis}; integer kernels of {op} take them along output channels, axis {expected}",
                axis = axis.unwrap_or(0)
            );
            findings.push(view, weight.dequantize, message);
        }
    }
}

fn bias_scale(view: &View, findings: &mut Findings) {
    for layer in view.layers() {
        let (Some(input), Some(weight), Some(bias)) = (layer.input, layer.weight, layer.bias) else { continue };
        let scales = [input, weight, bias].map(|operand| view.scales(operand.dequantize));
        let [Some(x), Some(w), Some(b)] = scales else { continue };
        let [x] = x[..] else { continue };
        let fits = |(i, &b): (usize, &f32)| {
            let expected = f64::from(x) * f64::from(w[if w.len() == 1 { 0 } else { i.min(w.len() - 1) }]);
            (f64::from(b) - expected).abs() <= f64::from(BIAS_SCALE_TOLERANCE) * expected
        };
        let lengths_fit = w.len() == 1 || b.len() == w.len();
        if is_bias(view, bias.dequantize) && !(lengths_fit && b.iter().enumerate().all(fits)) {
            let message = "the bias's scale is not the product of the input's and the weight's, which integer kernels \
                           assume, so the layer runs in float; quantize the bias again with that product";
            findings.push(view, layer.node, message);
        }
    }
}
