//! The smallest significant magnitudes of tensors: relative errors use at least these as reference.

use super::limits;
use crate::ir::{Graph, Node, ValueId, is_dequantize, is_quantize};

/// Operators with results between -1 and 1; errors of their float kernels are relative to 1.
const BOUNDED: &[&str] = &["Cos", "Erf", "HardSigmoid", "Sigmoid", "Sin", "Softsign", "Tanh"];
/// Operators with exact integer products after Q/DQ: their results are multiples of the product of both scales.
const PRODUCTS: &[&str] = &["Conv", "ConvTranspose", "Gemm", "MatMul"];

/// Returns the smallest significant magnitude of every value of `graph`: the step of its grid, or of the grids that it
/// is computed from; the rounding error of float kernels for bounded results; and at least the rounding error of
/// float32 at 1.
pub fn granularity(graph: &Graph) -> Vec<f64> {
    let mut smallest = vec![f64::from(f32::EPSILON); graph.value_ids().count()];
    for node in &graph.nodes {
        let own = of(graph, node, &smallest).max(f64::from(f32::EPSILON));
        node.outputs.iter().flatten().for_each(|id| smallest[id.index()] = own);
    }
    smallest
}

fn of(graph: &Graph, node: &Node, smallest: &[f64]) -> f64 {
    let largest = |id: ValueId| -> Option<f64> {
        let values = graph.constant_of(id)?.to_f32().ok()?;
        values.iter().map(|v| f64::from(v.abs())).max_by(f64::total_cmp)
    };
    let inputs = || node.inputs.iter().flatten();
    let step = |id: &ValueId| smallest[id.index()];
    if is_dequantize(node) || is_quantize(node) {
        return node.input(1).and_then(largest).unwrap_or(0.0);
    }
    if BOUNDED.iter().any(|op| node.is(op)) {
        return limits::SMALLEST_OF_BOUNDED;
    }
    if node.is("Softmax") {
        // Shares of many classes are small and right to their last bits all the same.
        return 0.0;
    }
    if PRODUCTS.iter().any(|op| node.is(op)) || node.is("Mul") {
        return inputs().take(2).map(|id| largest(*id).unwrap_or_else(|| step(id))).product();
    }
    inputs().map(step).max_by(f64::total_cmp).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{DType, Tensor};

    #[test]
    fn follows_grids_products_and_bounds() {
        let mut graph = Graph::default();
        let [x, w] = ["x", "w"].map(|name| graph.add_value(name));
        let scale = |graph: &mut Graph, value: f32| graph.add_constant("scale", Tensor::from_f32(&[], &[value]));
        let (s, t) = (scale(&mut graph, 0.5), scale(&mut graph, 0.125));
        let integers = graph.add_constant("i", Tensor::from_ints(DType::I8, &[1], &[3]).unwrap());
        let mut node = |op: &str, inputs: &[ValueId], name: &str| {
            let y = graph.add_value(name);
            graph.nodes.push(Node::new(op, inputs.iter().copied(), [y], []));
            y
        };
        let dx = node("DequantizeLinear", &[x, s], "dx");
        let dw = node("DequantizeLinear", &[integers, t], "dw");
        let y = node("Conv", &[dx, dw], "y");
        let r = node("Relu", &[y], "r");
        let p = node("Sigmoid", &[r], "p");
        let f = node("Neg", &[w], "f");
        let found = granularity(&graph);
        let of = [dx, dw, y, r, p, f].map(|id| found[id.index()]);
        let epsilon = f64::from(f32::EPSILON);
        assert_eq!(of, [0.5, 0.125, 0.0625, 0.0625, limits::SMALLEST_OF_BOUNDED, epsilon]);
    }
}
