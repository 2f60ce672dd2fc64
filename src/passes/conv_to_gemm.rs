//! Turns a Conv whose kernel covers its whole input, followed by a Flatten, into a Gemm.
//!
//! Before: `y = Flatten(Conv(x, w, b))` with `x: [N, I, h, w]`, `w: [O, I, h, w]`. After: `y = Gemm(Flatten(x), w, b)
//! transB=1` with `w: [O, I*h*w]`. Integer Gemm kernels can return floats, as logits need; integer Conv kernels cannot.
//!
//! Refused: groups, padding, dilation, weights that are not constants, unknown sizes, a Conv with another reader.

use crate::error::Result;
use crate::ir::{Attr, Dim, Graph, Node, Tensor, Uses};
use crate::shape::is_padded;

/// Rewrites what can be rewritten and returns the number of rewritten layers.
///
/// # Errors
/// None.
pub fn conv_to_gemm(graph: &mut Graph) -> Result<usize> {
    let mut rewritten = 0;
    let mut uses = graph.uses();
    let mut i = 0;
    while i < graph.nodes.len() {
        if let Some((flatten, weight)) = head(graph, &uses, i) {
            rewrite(graph, i, flatten, weight)?;
            rewritten += 1;
            uses = graph.uses();
        }
        i += 1;
    }
    graph.sort()?;
    graph.sweep();
    Ok(rewritten)
}

/// Returns the node that flattens the single output pixel of a Conv, and the weight as a matrix.
fn head(graph: &Graph, uses: &Uses, index: usize) -> Option<(usize, Tensor)> {
    let conv = &graph.nodes[index];
    let (x, w, y) = (conv.input(0)?, conv.input(1)?, conv.output(0)?);
    let weight = graph.constant_of(w).filter(|_| conv.is("Conv"))?;
    let [outputs, inputs, kernel @ ..] = weight.shape() else { return None };
    let covered = graph.value(x).shape.as_ref()?.get(2..)?.iter().map(Dim::known).eq(kernel.iter().map(|&k| Some(k)));
    let all = |name: &str, wanted: i64| conv.ints(name).is_none_or(|values| values.iter().all(|&v| v == wanted));
    if !covered || is_padded(conv) || !all("dilations", 1) || conv.attrs.int("group", 1) != 1 {
        return None;
    }
    let reader = uses.only_consumer(y)?;
    let flatten = &graph.nodes[reader];
    let flattens = ["Flatten", "Reshape", "Squeeze"].iter().any(|op| flatten.is(op)) && flatten.input(0) == Some(y);
    let flat = graph.value(flatten.output(0)?).shape.as_ref()?;
    let is_matrix = flat.len() == 2 && flat[1] == Dim::Known(*outputs);
    let length = kernel.iter().product::<usize>() * inputs;
    let matrix = Tensor::new(weight.dtype(), vec![*outputs, length], weight.bytes().clone()).ok()?;
    (flattens && is_matrix).then_some((reader, matrix))
}

fn rewrite(graph: &mut Graph, index: usize, flatten: usize, weight: Tensor) -> Result<()> {
    let conv = graph.nodes[index].clone();
    let (Some(x), Some(w)) = (conv.input(0), conv.input(1)) else { return Ok(()) };
    let name = format!("{}_matrix", graph.name_of(w));
    let length = weight.len() / weight.shape()[0].max(1);
    let matrix = graph.add_constant(&name, weight);
    let flat = graph.add_value(&format!("{}_flat", graph.name_of(x)));
    let dims = graph.value(x).shape.as_ref().map(|shape| vec![shape[0].clone(), Dim::Known(length)]);
    (graph.value_mut(flat).dtype, graph.value_mut(flat).shape) = (graph.value(x).dtype, dims);
    let mut gemm = Node::new("Gemm", [flat, matrix], [], [("transB", Attr::Int(1))]);
    gemm.inputs.extend(conv.input(2).map(Some));
    (gemm.name, gemm.doc, gemm.metadata) = (conv.name, conv.doc, conv.metadata);
    let before = std::mem::replace(&mut graph.nodes[flatten], gemm);
    graph.nodes[flatten].outputs = before.outputs;
    let mut flattening = Node::new("Flatten", [x], [flat], [("axis", Attr::Int(1))]);
    flattening.name = before.name;
    graph.nodes[index] = flattening;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{DType, ValueId};

    fn network(size: usize, kernel: usize, group: i64, reader: &str) -> Graph {
        let mut graph = Graph::default();
        graph.set_opset(13);
        let value = |graph: &mut Graph, name: &str, shape: &[usize]| -> ValueId {
            let id = graph.add_value(name);
            graph.value_mut(id).dtype = Some(DType::F32);
            graph.value_mut(id).shape = Some(shape.iter().map(|&n| Dim::Known(n)).collect());
            id
        };
        let x = value(&mut graph, "x", &[2, 3, size, size]);
        graph.inputs.push(x);
        let w = Tensor::from_f32(&[4, 3, kernel, kernel], &vec![0.5; 12 * kernel * kernel]);
        let w = graph.add_constant("w", w);
        let side = size - kernel + 1;
        let (c, y) = (value(&mut graph, "c", &[2, 4, side, side]), value(&mut graph, "y", &[2, 4 * side * side]));
        graph.nodes.push(Node::new("Conv", [x, w], [c], [("group", Attr::Int(group))]));
        graph.nodes.push(Node::new(reader, [c], [y], []));
        graph.outputs.push(y);
        graph
    }

    #[test]
    fn only_a_flattened_conv_that_covers_its_input_is_rewritten() {
        let cases = [
            ("one pixel", network(1, 1, 1, "Flatten"), Some(3)),
            ("four pixels", network(2, 2, 1, "Flatten"), Some(12)),
            ("more than one position", network(2, 1, 1, "Flatten"), None),
            ("groups", network(1, 1, 2, "Flatten"), None),
            ("activation between", network(1, 1, 1, "Relu"), None),
        ];
        let mut failed = Vec::new();
        for (name, mut graph, expected) in cases {
            let changed = conv_to_gemm(&mut graph).unwrap();
            let ops: Vec<&str> = graph.nodes.iter().map(|n| n.op_type.as_str()).collect();
            let length = graph.find("w_matrix").and_then(|id| graph.constant_of(id)).map(|w| w.shape()[1]);
            if length != expected || (changed == 1) != (ops == ["Flatten", "Gemm"]) {
                failed.push(format!("{name}: {changed} changes, {ops:?}, length {length:?}"));
            }
        }
        assert!(failed.is_empty(), "{failed:?}");
    }
}
