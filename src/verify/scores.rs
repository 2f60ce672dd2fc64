//! Which tensors are compared between runtimes in place of probabilities.

use crate::ir::{DType, Graph, ValueId};

use super::structure::{is_dequantize, is_quantize};

/// Returns for each output of `graph` the tensor to compare: the input of a trailing Softmax or LogSoftmax, else the
/// output itself. The exponential makes large relative errors of small ones, and a quantized probability has few steps
/// where it is small; the scores before it carry the same decision on an even scale.
pub fn compared_tensors(graph: &Graph) -> Vec<(ValueId, DType)> {
    let uses = graph.uses();
    let before_softmax = |output: ValueId| {
        let mut at = output;
        loop {
            let node = &graph.nodes[uses.producer(at)?];
            let input = node.input(0)?;
            if node.is("Softmax") || node.is("LogSoftmax") {
                return Some(input);
            }
            if !(is_quantize(node) || is_dequantize(node) || node.is("Identity") || node.is("Cast")) {
                return None;
            }
            at = input;
        }
    };
    let tensor = |&output: &ValueId| match before_softmax(output) {
        Some(scores) => (scores, DType::F32),
        None => (output, graph.value(output).dtype.unwrap_or(DType::F32)),
    };
    graph.outputs.iter().map(tensor).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{Attrs, Node};

    #[test]
    fn looks_through_a_trailing_softmax_and_quantizers_after_it_only() {
        let mut graph = Graph::default();
        let [x, scale, scores, probs, q, dq, other] =
            ["x", "scale", "scores", "probs", "q", "dq", "other"].map(|name| graph.add_value(name));
        graph.inputs = vec![x, scale];
        graph.nodes = vec![
            Node::new("Relu", [x], [scores], Attrs::default()),
            Node::new("Softmax", [scores], [probs], Attrs::default()),
            Node::new("QuantizeLinear", [probs, scale], [q], Attrs::default()),
            Node::new("DequantizeLinear", [q, scale], [dq], Attrs::default()),
            Node::new("Relu", [probs], [other], Attrs::default()),
        ];
        graph.outputs = vec![dq, other, x];
        let found: Vec<ValueId> = compared_tensors(&graph).into_iter().map(|(id, _)| id).collect();
        assert_eq!(found, [scores, other, x]);
    }
}
