//! Errors of integer kernels beyond float rounding (seen in ONNX Runtime 1.31 with default options): two kernels use
//! rounded factors or biases.

use super::structure::Quantizer;
use crate::ir::{Graph, Node, Uses, ValueId, is_dequantize};

/// Operators that keep or clip values: a kernel with integer output spans them.
const SPANNED: &[&str] =
    &["Clip", "Dropout", "Flatten", "Identity", "MaxPool", "Relu", "Reshape", "Squeeze", "Transpose", "Unsqueeze"];

/// The largest error of a kernel's result before rounding.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct KernelError {
    /// Absolute.
    pub absolute: f64,
    /// Relative to the result.
    pub relative: f64,
}

impl KernelError {
    /// Returns the largest absolute error at `x`.
    pub fn at(self, x: f32) -> f64 {
        self.absolute + self.relative * f64::from(x).abs()
    }
}

/// Returns the largest error of an integer kernel at `quantizer`.
///
/// QLinearSoftmax multiplies probabilities by the largest integer up to `1 / scale` (254 for a scale of 1/255 in
/// float32). A float bias of a layer becomes int32 on the product of both scales, which rounds it by half of that.
pub fn kernel_error(graph: &Graph, uses: &Uses, quantizer: &Quantizer) -> KernelError {
    let none = KernelError::default();
    let mut at = quantizer.input;
    loop {
        let Some(node) = uses.producer(at).map(|i| &graph.nodes[i]) else { return none };
        match node.input(0) {
            Some(input) if SPANNED.iter().any(|op| node.is(op)) => at = input,
            Some(input) if node.is("Softmax") && scale_of(graph, uses, input).is_some() => {
                let scale = quantizer.grid.as_ref().and_then(|grid| grid.scale.first().copied());
                let lost = |s: f32| 1.0 - f64::from(s) * f64::from((1.0 / s).floor());
                return KernelError { relative: scale.map_or(0.0, lost).max(0.0), ..none };
            }
            _ => return KernelError { absolute: rounded_bias(graph, uses, node).unwrap_or(0.0), ..none },
        }
    }
}

/// Returns half a step of the int32 bias, if the layer `node` has a float bias and integer operands.
fn rounded_bias(graph: &Graph, uses: &Uses, node: &Node) -> Option<f64> {
    if !["Conv", "ConvTranspose", "Gemm"].iter().any(|op| node.is(op)) {
        return None;
    }
    graph.constant_of(node.input(2)?)?;
    Some(0.5 * scale_of(graph, uses, node.input(0)?)? * scale_of(graph, uses, node.input(1)?)?)
}

/// Returns the largest scale of the DequantizeLinear that produces `id`.
fn scale_of(graph: &Graph, uses: &Uses, id: ValueId) -> Option<f64> {
    let node = &graph.nodes[uses.producer(id)?];
    let scale = graph.constant_of(node.input(1).filter(|_| is_dequantize(node))?)?.to_f32().ok()?;
    scale.into_iter().map(f64::from).max_by(f64::total_cmp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{DType, Tensor};
    use crate::verify::find_quantizers;

    /// DequantizeLinear, `op`, Relu, QuantizeLinear with these scales; a layer has a float bias.
    fn errors(op: &str, [before, after]: [f32; 2]) -> KernelError {
        let mut graph = Graph::default();
        let x = graph.add_value("x");
        let scale = |graph: &mut Graph, value: f32| graph.add_constant("scale", Tensor::from_f32(&[], &[value]));
        let (s, t, u) = (scale(&mut graph, before), scale(&mut graph, 0.25), scale(&mut graph, after));
        let integers = graph.add_constant("w", Tensor::from_ints(DType::I8, &[1], &[3]).unwrap());
        let bias = graph.add_constant("bias", Tensor::from_f32(&[1], &[1.0]));
        let zero = graph.add_constant("zero", Tensor::from_ints(DType::U8, &[], &[0]).unwrap());
        let [dx, dw, y, r, q] = ["dx", "dw", "y", "r", "q"].map(|name| graph.add_value(name));
        let operands = if op == "Softmax" { vec![dx] } else { vec![dx, dw, bias] };
        graph.nodes = vec![
            Node::new("DequantizeLinear", [x, s], [dx], []),
            Node::new("DequantizeLinear", [integers, t], [dw], []),
            Node::new(op, operands, [y], []),
            Node::new("Relu", [y], [r], []),
            Node::new("QuantizeLinear", [r, u, zero], [q], []),
        ];
        graph.inputs.push(x);
        graph.outputs.push(q);
        kernel_error(&graph, &graph.uses(), &find_quantizers(&graph).quantizers[0])
    }

    #[test]
    fn errors_are_those_of_factors_and_biases() {
        assert_eq!(errors("Conv", [0.5, 0.1]), KernelError { absolute: 0.0625, relative: 0.0 });
        assert_eq!(errors("Softmax", [0.5, 1.0 / 256.0]), KernelError::default());
        let lost = errors("Softmax", [0.5, 1.0 / 255.0]);
        assert!((lost.relative - 1.0 / 255.0).abs() < 1e-6 && lost.absolute == 0.0, "{lost:?}");
        assert_eq!(errors("Tanh", [0.5, 0.1]), KernelError::default());
    }
}
