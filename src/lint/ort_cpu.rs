//! Rules of ONNX Runtime's CPU kernels: what keeps a quantized layer in floating point (seen in 1.31).

use super::view::{View, is_16_bit, is_layer, is_packed};
use super::{Findings, Rule, Severity};
use crate::ir::{DType, Node};
use crate::plan::Target::{OpenVino, OrtCpu, Portable, TensorRt};
use crate::plan::preserved_inputs;
use crate::verify::is_quantize;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "packed-activations",
        targets: &[OrtCpu, Portable, TensorRt],
        severity: Severity::Error,
        check: packed_activations,
    },
    Rule { id: "signed-activations", targets: &[OrtCpu], severity: Severity::Warning, check: signed_activations },
    Rule {
        id: "signs-of-operands",
        targets: &[OrtCpu, Portable],
        severity: Severity::Warning,
        check: signs_of_operands,
    },
    Rule {
        id: "clip-before-quantizer",
        targets: &[OrtCpu, Portable],
        severity: Severity::Warning,
        check: clip_before_quantizer,
    },
    Rule { id: "float-result", targets: &[OrtCpu, Portable], severity: Severity::Warning, check: float_result },
    Rule { id: "float-operand", targets: &[OrtCpu, Portable], severity: Severity::Warning, check: float_operand },
    Rule { id: "weight-only", targets: &[OrtCpu, OpenVino, Portable], severity: Severity::Warning, check: weight_only },
    Rule { id: "packed-weight", targets: &[OrtCpu, OpenVino], severity: Severity::Warning, check: packed_weight },
    Rule { id: "wide-activations", targets: &[OrtCpu], severity: Severity::Warning, check: wide_activations },
    Rule {
        id: "missing-quantizer",
        targets: &[OrtCpu, Portable],
        severity: Severity::Warning,
        check: missing_quantizer,
    },
    Rule { id: "changed-grid", targets: &[OrtCpu, Portable], severity: Severity::Warning, check: changed_grid },
];

/// Operators that stay in integers between equal grids.
const STAY_IN_INTEGERS: &[&str] = &[
    "MaxPool",
    "ReduceMax",
    "Reshape",
    "Flatten",
    "Transpose",
    "Squeeze",
    "Unsqueeze",
    "Slice",
    "Gather",
    "Tile",
    "Expand",
    "Resize",
];

fn packed_activations(view: &View, findings: &mut Findings) {
    for node in view.quantizers().filter(|node| is_packed(view.integers(node))) {
        let message = "activations in a type below 8 bits are refused or computed wrongly beside MaxPool, ReduceMax and \
                       Clip; quantize to 8 bits and limit the integers with Clip";
        findings.push(view, node, message);
    }
}

fn signed_activations(view: &View, findings: &mut Findings) {
    for node in view.quantizers().filter(|node| view.integers(node) == Some(DType::I8)) {
        let message = "int8 activations keep layers in float where a tensor has several readers; quantize to uint8";
        findings.push(view, node, message);
    }
}

fn signs_of_operands(view: &View, findings: &mut Findings) {
    for layer in view.layers() {
        let (Some(input), Some(weight)) = (layer.input, layer.weight) else { continue };
        let types = [input, weight].map(|operand| view.integers(operand.dequantize));
        if types == [Some(DType::I8), Some(DType::U8)] {
            let message = "int8 activations need int8 weights; quantize the weights to int8, or activations to uint8";
            findings.push(view, layer.node, message);
        }
    }
}

/// The values that a Relu or Clip leaves, where they are constants.
fn limits(view: &View, node: &Node) -> Option<(f32, f32)> {
    let limit = |i: usize, name: &str, none: f32| match node.input(i) {
        Some(id) => view.graph.constant_of(id)?.to_f32().ok()?.first().copied(),
        None => Some(node.attrs.float(name, none)),
    };
    match node.op_type.as_str() {
        "Relu" => Some((0.0, f32::INFINITY)),
        "Clip" => Some((limit(1, "min", f32::NEG_INFINITY)?, limit(2, "max", f32::INFINITY)?)),
        _ => None,
    }
}

fn clip_before_quantizer(view: &View, findings: &mut Findings) {
    for layer in view.layers().filter(|layer| layer.input.is_some() && layer.weight.is_some()) {
        let reader = layer.node.output(0).and_then(|id| view.uses.only_consumer(id)).map(|i| &view.graph.nodes[i]);
        let Some((clip, (low, high))) = reader.and_then(|node| Some((node, limits(view, node)?))) else { continue };
        for quantize in clip.output(0).into_iter().flat_map(|id| view.readers(id)).filter(|node| is_quantize(node)) {
            if !ends_within(view, quantize, (low, high)) {
                let message = format!(
                    "the grid reaches beyond {}, which keeps it and the layer before in float; end the grid there (zero \
                     point at the lowest integer) or limit the integers behind the quantizer",
                    clip.op_type
                );
                findings.push(view, quantize, message);
            }
        }
    }
}

/// Whether every value of a quantizer's grid lies between `low` and `high`, within half a step.
#[allow(clippy::cast_precision_loss)]
fn ends_within(view: &View, quantize: &Node, (low, high): (f32, f32)) -> bool {
    let range = view.integers(quantize).and_then(DType::int_range);
    let (Some((q_min, q_max)), Some(&[scale])) = (range, view.scales(quantize).as_deref()) else { return true };
    let zero = view.zero_points(quantize).and_then(|z| z.first().copied()).unwrap_or(0);
    let value = |q: i64| (q - zero) as f32 * scale;
    value(q_min) >= low - 0.5 * scale && value(q_max) <= high + 0.5 * scale
}

fn float_result(view: &View, findings: &mut Findings) {
    for layer in view.layers().filter(|layer| layer.node.is("Conv") && layer.input.is_some() && layer.weight.is_some())
    {
        let Some(output) = layer.node.output(0).filter(|&id| view.leads_to_layer(id)) else { continue };
        let result = view.behind_activation(output);
        let alone = view.uses.consumers(result).len() == 1 && !view.uses.is_output(result);
        if !alone || !view.readers(result).all(is_quantize) {
            let message =
                "its result is not read by one QuantizeLinear alone, so it runs in float; quantize the result";
            findings.push(view, layer.node, message);
        }
    }
}

fn float_operand(view: &View, findings: &mut Findings) {
    for node in view.graph.nodes.iter().filter(|node| node.is("Add") || node.is("Mul")) {
        let computed = |i: usize| node.input(i).is_some_and(|id| view.graph.constant_of(id).is_none());
        let quantized = [0, 1].map(|i| view.operand(node.input(i)).is_some());
        if computed(0) && computed(1) && quantized[0] != quantized[1] {
            let message =
                "one operand is quantized and the other float, so it runs in float; quantize both, or neither";
            findings.push(view, node, message);
        }
    }
}

fn weight_only(view: &View, findings: &mut Findings) {
    let convolution = |node: &Node| node.is("Conv") || node.is("ConvTranspose");
    for layer in view.layers().filter(|layer| convolution(layer.node) && layer.weight.is_some()) {
        if layer.input.is_none() {
            let message =
                "only its weight is quantized: it runs in float, no faster than before; quantize its input too";
            findings.push(view, layer.node, message);
        }
    }
}

fn packed_weight(view: &View, findings: &mut Findings) {
    for layer in view.layers().filter(|layer| layer.input.is_some()) {
        if layer.weight.is_some_and(|weight| is_packed(view.integers(weight.dequantize))) {
            let message =
                "4-bit weights make the file small, but the layer runs in float; store them in int8 for speed";
            findings.push(view, layer.node, message);
        }
    }
}

fn wide_activations(view: &View, findings: &mut Findings) {
    for node in view.quantizers().filter(|node| is_16_bit(view.integers(node))) {
        findings.push(view, node, "no integer kernel takes 16 bits; quantize to uint8");
    }
}

/// Operators between DequantizeLinear and the nodes that read their result.
fn between<'a>(view: &View<'a>) -> impl Iterator<Item = (&'a Node, &'a Node, Vec<&'a Node>)> {
    let nodes = view.graph.nodes.iter().filter(|node| STAY_IN_INTEGERS.iter().any(|op| node.is(op)));
    let preserving = nodes.filter(|node| preserved_inputs(view.graph, node).is_some());
    preserving.filter_map(|node| {
        let dequantize = view.operand(node.input(0))?.dequantize;
        let output = node.output(0).filter(|&id| view.leads_to_layer(id))?;
        Some((node, dequantize, view.readers(output).collect()))
    })
}

fn missing_quantizer(view: &View, findings: &mut Findings) {
    for (node, _, readers) in between(view) {
        if !readers.iter().any(|reader| is_quantize(reader)) && readers.iter().any(|reader| is_layer(reader)) {
            let message = "no QuantizeLinear follows, so it and the layer behind it run in float; put Q/DQ with the same \
                           scale and zero point behind it";
            findings.push(view, node, message);
        }
    }
}

fn changed_grid(view: &View, findings: &mut Findings) {
    for (node, dequantize, readers) in between(view) {
        for quantize in readers.into_iter().filter(|reader| is_quantize(reader)) {
            if !view.same_grid(dequantize, quantize) {
                let message = "the scale or zero point behind it is another than before it, so it runs in float; use one \
                               grid for both";
                findings.push(view, node, message);
            }
        }
    }
}
