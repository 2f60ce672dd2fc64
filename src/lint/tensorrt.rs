//! Rules of TensorRT, from its documentation and the output of its own quantizer; not tested on TensorRT.

use super::view::{Layer, View, is_packed};
use super::{Findings, Rule, error, warning};
use crate::ir::{DType, Node, is_dequantize, is_quantize};
use crate::plan::Target::{OpenVino, TensorRt};
use crate::plan::{LayerShape, Target, is_layer};

pub(super) const RULES: &[Rule] = &[
    error("unsigned-integers", TARGETS, unsigned_integers),
    error("zero-point", TARGETS, zero_point),
    error("quantized-bias", TARGETS, quantized_bias),
    error("packed-convolution", TARGETS, packed_convolution),
    error("packed-product", TARGETS, packed_product),
    error("narrow-activations", TARGETS, narrow_activations),
    error("integer-operator", TARGETS, integer_operator),
    warning("old-operator-set", TARGETS, old_operator_set),
    warning("quantizer-before-sum", TARGETS, quantizer_before_sum),
    warning("quantizer-before-relu", TARGETS, quantizer_before_relu),
    warning("unequal-concat", &[TensorRt, OpenVino], unequal_concat),
    warning("slow-layer", TARGETS, slow_layer),
    warning("lowest-weight", TARGETS, lowest_weight),
];

const TARGETS: &[Target] = &[TensorRt];

fn unsigned_integers(view: &View, findings: &mut Findings) {
    for node in view.pairs() {
        if let Some(dtype @ (DType::U8 | DType::U16 | DType::U4 | DType::U2)) = view.integers(node) {
            let message = format!("{dtype} is refused; quantize to int8 with zero point 0");
            findings.push(view, node, message);
        }
    }
}

fn zero_point(view: &View, findings: &mut Findings) {
    for node in view.pairs().filter(|node| view.has_zero_point_other_than_0(node)) {
        findings.push(view, node, "a zero point other than 0 is refused; quantize symmetrically");
    }
}

fn quantized_bias(view: &View, findings: &mut Findings) {
    for layer in view.layers().filter(|layer| layer.bias.is_some()) {
        findings.push(view, layer.node, "a quantized bias is refused; keep biases float");
    }
}

fn has_packed_weight(view: &View, layer: &Layer) -> bool {
    layer.weight.is_some_and(|weight| is_packed(view.integers(weight.dequantize)))
}

fn is_convolution(node: &Node) -> bool {
    node.is("Conv") || node.is("ConvTranspose")
}

fn packed_convolution(view: &View, findings: &mut Findings) {
    for layer in view.layers().filter(|layer| is_convolution(layer.node) && has_packed_weight(view, layer)) {
        findings.push(view, layer.node, "convolutions do not support 4-bit weights; store the same integers in int8");
    }
}

fn packed_product(view: &View, findings: &mut Findings) {
    for layer in view.layers().filter(|layer| !is_convolution(layer.node) && has_packed_weight(view, layer)) {
        if layer.input.is_some() {
            let message = "4-bit weights need float inputs; leave the input float, or store the weight in int8";
            findings.push(view, layer.node, message);
        }
    }
}

fn narrow_activations(view: &View, findings: &mut Findings) {
    for quantize in view.quantizers() {
        let clipped = quantize.output(0).into_iter().flat_map(|id| view.readers(id)).any(|node| node.is("Clip"));
        if clipped {
            let message = "a Clip on integers (a grid below 8 bits) is not fused; use all 8 bits of activations";
            findings.push(view, quantize, message);
        }
    }
}

fn integer_operator(view: &View, findings: &mut Findings) {
    const OPERATORS: &[&str] =
        &["QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear"];
    for node in view.graph.nodes.iter().filter(|node| OPERATORS.iter().any(|op| node.is(op))) {
        findings.push(view, node, "integer operators are not supported; use the float operator with Q/DQ around it");
    }
}

fn old_operator_set(view: &View, findings: &mut Findings) {
    let (found, least) = (view.graph.opset(), TensorRt.choices().opset);
    if let Some(first) = view.pairs().next().filter(|_| found < least) {
        findings.push(view, first, format!("operator set {found}; int8 needs {least} or newer; raise it"));
    }
}

/// Quantizers, each with the layer whose only reader it is, and the nodes after it.
fn behind_layers<'a>(view: &View<'a>) -> impl Iterator<Item = (&'a Node, Vec<&'a Node>)> {
    view.quantizers().filter_map(|quantize| {
        let input = quantize.input(0).filter(|&id| view.uses.consumers(id).len() == 1)?;
        view.maker(input).filter(|node| is_layer(node))?;
        let dequantized = view.readers(quantize.output(0)?).filter(|node| is_dequantize(node));
        let results = dequantized.filter_map(|node| node.output(0));
        Some((quantize, results.flat_map(|id| view.readers(id)).collect()))
    })
}

fn quantizer_before_sum(view: &View, findings: &mut Findings) {
    let mut fused: Vec<&Node> = Vec::new();
    for node in view.graph.nodes.iter().filter(|node| node.is("Add")) {
        let alone = |id| view.uses.consumers(id).len() == 1 && view.maker(id).is_some_and(is_layer);
        fused.extend(node.inputs.iter().flatten().any(|&id| alone(id)).then_some(node));
    }
    for (quantize, readers) in behind_layers(view) {
        let sum = |node: &&&Node| node.is("Add") && !fused.iter().any(|other| std::ptr::eq(*other, **node));
        if readers.iter().find(sum).is_some() {
            let message =
                "Q/DQ between a layer and its Add keeps both from being fused; quantize only the other operand";
            findings.push(view, quantize, message);
        }
    }
}

fn quantizer_before_relu(view: &View, findings: &mut Findings) {
    for (quantize, readers) in behind_layers(view) {
        if readers.iter().any(|node| node.is("Relu") || node.is("Clip")) {
            let message =
                "Q/DQ between a layer and its activation function keeps both from being fused; quantize after it";
            findings.push(view, quantize, message);
        }
    }
}

fn unequal_concat(view: &View, findings: &mut Findings) {
    for node in view.graph.nodes.iter().filter(|node| node.is("Concat")) {
        let operands: Vec<_> = node.inputs.iter().map(|&id| view.operand(id)).collect();
        let quantized: Vec<&Node> = operands.iter().flatten().map(|operand| operand.dequantize).collect();
        let [first, others @ ..] = &quantized[..] else { continue };
        if others.iter().any(|other| !view.same_grid(first, other)) {
            let message = "its inputs have different scales, so some are quantized again; give all of them one grid";
            findings.push(view, node, message);
        }
    }
}

fn slow_layer(view: &View, findings: &mut Findings) {
    for layer in view.layers() {
        let (Some(input), Some(weight)) = (layer.input, layer.weight) else { continue };
        let source = |operand: &Node| operand.input(0);
        let before = input.quantize.filter(|node| is_quantize(node)).and_then(source);
        let (Some(x), Some(w)) = (before.or(source(input.dequantize)), source(weight.dequantize)) else { continue };
        let shape = LayerShape::of(view.graph, layer.node, x, w);
        if let Some(reason) = TensorRt.choices().keeps_float.iter().find_map(|rule| rule(&shape)) {
            findings.push(view, layer.node, format!("{reason}; leave it unquantized"));
        }
    }
}

fn lowest_weight(view: &View, findings: &mut Findings) {
    for layer in view.layers() {
        let Some(weight) = layer.weight else { continue };
        let Some(stored) = weight.stored.filter(|stored| stored.dtype() == DType::I8) else { continue };
        if stored.to_i64().is_ok_and(|integers| integers.contains(&-128)) {
            findings.push(view, weight.dequantize, "weights reach -128; symmetric ones end at -127");
        }
    }
}
