//! Rules of tract (seen in 0.23.9), which files for several runtimes keep.

use super::view::{View, is_16_bit, is_blocked, is_packed};
use super::{Findings, Rule, error};
use crate::ir::{DType, Node, Tensor, is_quantize, stated_type};
use crate::plan::Target::{self, Portable, TensorRt};

pub(super) const RULES: &[Rule] = &[
    error("blocked-scales", TARGETS, blocked_scales),
    error("packed-tensor", TARGETS, packed_tensor),
    error("wide-integers", TARGETS, wide_integers),
    error("implied-type", TARGETS, implied_type),
    error("mixed-signs", TARGETS, mixed_signs),
    error("foreign-operator", &[Portable, TensorRt], foreign_operator),
    error("half-scale", TARGETS, half_scale),
    error("computed-scale", TARGETS, computed_scale),
];

const TARGETS: &[Target] = &[Portable];

fn blocked_scales(view: &View, findings: &mut Findings) {
    for node in view.pairs().filter(|node| is_blocked(view, node)) {
        findings.push(view, node, "tract does not support blocked scales; use one scale per channel or per tensor");
    }
}

fn packed_tensor(view: &View, findings: &mut Findings) {
    for node in view.pairs().filter(|node| is_packed(view.integers(node))) {
        findings.push(view, node, "tract does not read types below 8 bits; store the same integers in int8 or uint8");
    }
}

fn wide_integers(view: &View, findings: &mut Findings) {
    for node in view.pairs().filter(|node| is_16_bit(view.integers(node))) {
        findings.push(view, node, "tract does not support 16-bit quantization; use 8 bits");
    }
}

fn implied_type(view: &View, findings: &mut Findings) {
    for node in view.quantizers().filter(|node| node.input(2).is_none()) {
        if let Some(dtype) = stated_type(node).filter(|&dtype| dtype != DType::U8) {
            let message = format!(
                "tract treats a QuantizeLinear without a zero point as uint8, which gives wrong results; give it a \
                 {dtype} zero point"
            );
            findings.push(view, node, message);
        }
    }
}

fn mixed_signs(view: &View, findings: &mut Findings) {
    for quantize in view.quantizers() {
        let (Some(own), Some(node)) = (view.integers(quantize), quantize.input(0).and_then(|id| view.maker(id))) else {
            continue;
        };
        let other = |dtype: &DType| matches!((own, dtype), (DType::I8, DType::U8) | (DType::U8, DType::I8));
        if let Some(found) = elementwise_source(view, node).filter(other) {
            let message = format!(
                "{found} integers become {own} after elementwise operators, which tract fails to load; keep one \
                 type throughout"
            );
            findings.push(view, quantize, message);
        }
    }
}

/// Returns the integer type that a chain of elementwise operators starts from.
fn elementwise_source(view: &View, node: &Node) -> Option<DType> {
    const ELEMENTWISE: &[&str] = &[
        "Relu",
        "Clip",
        "LeakyRelu",
        "Sigmoid",
        "Tanh",
        "Neg",
        "Abs",
        "Sqrt",
        "Exp",
        "Identity",
        "HardSigmoid",
        "Elu",
    ];
    let mut at = node;
    while ELEMENTWISE.iter().any(|op| at.is(op)) {
        at = view.maker(at.input(0)?)?;
    }
    (view.pairs().any(|pair| std::ptr::eq(pair, at)) && !is_quantize(at)).then(|| view.integers(at))?
}

fn computed_scale(view: &View, findings: &mut Findings) {
    for node in view.pairs().filter(|node| view.scale(node).is_none()) {
        findings.push(view, node, "tract needs constant scales; fold the computation of this one");
    }
}

fn half_scale(view: &View, findings: &mut Findings) {
    for node in view.pairs() {
        if let Some(dtype) = view.scale(node).map(Tensor::dtype).filter(|&dtype| dtype != DType::F32) {
            findings.push(view, node, format!("its scale is {dtype}; tract accepts only float32"));
        }
    }
}

fn foreign_operator(view: &View, findings: &mut Findings) {
    for node in view.graph.nodes.iter().filter(|node| node.domain == "com.microsoft") {
        let message = "an operator of ONNX Runtime's own domain, unknown elsewhere; use the standard ones, with Q/DQ around \
                       them";
        findings.push(view, node, message);
    }
}
