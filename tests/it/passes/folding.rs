//! Constants that are computed once, and what is left to the runtime.

use dfq_onnx::ir::{DType, Dim, Graph, OperatorSet, Tensor};
use dfq_onnx::passes;

use super::{failures, small};
use crate::support::build::Build;
use crate::support::ort;

#[test]
fn what_does_not_depend_on_the_inputs_is_folded() {
    let with_symbol = |mut graph: Graph| {
        let x = graph.inputs[0];
        graph.value_mut(x).shape.as_mut().unwrap()[0] = Dim::Symbol("N".to_owned());
        graph
    };
    let ints = |values: &[i64]| Tensor::from_i64(&[values.len()], values);
    let mut other_domain = small(13, |g| {
        g.constant("a", Tensor::from_f32(&[1], &[2.0]));
        g.node("Gelu", "a", "b", []);
        g.node("Mul", "x b", "y", []);
    });
    other_domain.nodes[0].domain = "com.microsoft".to_owned();
    other_domain.opsets.push(OperatorSet { domain: Some("com.microsoft".to_owned()), version: 1 });
    let cases = vec![
        (
            "arithmetic on constants",
            small(13, |g| {
                g.constant("a", Tensor::from_f32(&[1], &[2.0]));
                g.node("Mul", "a a", "b", []);
                g.node("Add", "b a", "c", []);
                g.node("Mul", "x c", "y", []);
            }),
            Some(&["%y = Mul(%x, float32[1])"] as &[_]),
        ),
        (
            "a Reshape target from sizes",
            with_symbol(small(13, |g| {
                g.constant("zero", ints(&[0]));
                g.constant("rest", ints(&[-1]));
                g.node("Shape", "x", "s", []);
                g.node("Gather", "s zero", "n", []);
                g.node("Concat", "n rest", "t", [("axis", 0.into())]);
                g.node("Reshape", "x t", "y", []);
            })),
            Some(&["%y = Reshape(%x, [0, -1])"]),
        ),
        (
            "a Reshape target from sizes of which none is known",
            small(13, |g| {
                g.fed("z", DType::F32, "?, 3, 2");
                g.constant("zero", ints(&[0]));
                g.constant("rest", ints(&[-1]));
                g.node("Shape", "z", "s", []);
                g.node("Gather", "s zero", "n", []);
                g.node("Concat", "n rest", "t", [("axis", 0.into())]);
                g.node("Reshape", "z t", "r", []);
                g.node("ReduceMean", "r", "m", [("keepdims", 0.into())]);
                g.node("Mul", "x m", "y", []);
            }),
            Some(&["%r = Reshape(%z, [0, -1])", "%m = ReduceMean(%r) keepdims=0", "%y = Mul(%x, %m)"]),
        ),
        (
            "a Reshape target where 0 is a size",
            with_symbol(small(14, |g| {
                g.node("Shape", "x", "s", []);
                g.node("Reshape", "x s", "y", [("allowzero", 1.into())]);
            })),
            None,
        ),
        ("an operator of another domain", other_domain, None),
        (
            "sizes that are known",
            small(13, |g| {
                g.node("Shape", "x", "s", []);
                g.node("Reshape", "x s", "y", []);
            }),
            Some(&["%y = Reshape(%x, [2, 4, 6, 6])"]),
        ),
        (
            "a result that is the graph output",
            small(13, |g| {
                g.constant("a", Tensor::from_f32(&[1], &[2.0]));
                g.node("Mul", "a a", "y", []);
            }),
            None,
        ),
        (
            "a result far larger than its inputs",
            small(13, |g| {
                g.constant("a", Tensor::from_f32(&[1], &[2.0]));
                g.constant("t", ints(&[400, 1, 36, 6, 6]));
                g.node("Expand", "a t", "big", []);
                g.node("ReduceMax", "big", "m", [("keepdims", 0.into())]);
                g.node("Mul", "x m", "y", []);
            }),
            None,
        ),
        (
            "a quantized weight",
            small(13, |g| {
                g.constant("q", Tensor::from_ints(DType::I8, &[1], &[4]).unwrap());
                g.constant("s", Tensor::from_f32(&[], &[0.5]));
                g.node("DequantizeLinear", "q s", "w", []);
                g.node("Mul", "x w", "y", []);
            }),
            None,
        ),
    ];
    let failed = failures(|graph| passes::fold_constants(graph, ort()), cases);
    assert!(failed.is_empty(), "{failed:#?}");
}

/// `x: [2, 2048]`, 2,048 by 256 bytes `q` that take 1.5 MiB more as float32, and `nodes`.
fn with_bytes(nodes: impl FnOnce(&mut Build)) -> Graph {
    let mut g = Build::at(13);
    g.input("x", &[2, 2048]);
    let bytes: Vec<i32> = (0..2048 * 256).map(|i| i % 251 - 125).collect();
    g.constant("q", Tensor::from_ints(DType::I8, &[2048, 256], &bytes).unwrap());
    g.constant("s", Tensor::from_f32(&[1], &[0.01]));
    g.constant("shape", Tensor::from_i64(&[2], &[2048, 256]));
    nodes(&mut g);
    g.outputs("y")
}

#[test]
fn weights_of_any_size_are_folded_where_nothing_is_repeated() {
    let folded: Option<&[&str]> = Some(&["%y = MatMul(%x, float32[2048, 256])"]);
    let cases = vec![
        (
            "DequantizeLinear",
            with_bytes(|g| {
                g.constant("scale", Tensor::from_f32(&[], &[0.01]));
                g.node("DequantizeLinear", "q scale", "w", []);
                g.node("MatMul", "x w", "y", []);
            }),
            folded,
        ),
        (
            "Cast, Mul, Transpose",
            with_bytes(|g| {
                g.node("Cast", "q", "f", [("to", 1.into())]);
                g.node("Mul", "f s", "m", []);
                g.node("Transpose", "m", "t", []);
                g.node("Transpose", "t", "w", []);
                g.node("MatMul", "x w", "y", []);
            }),
            folded,
        ),
        (
            "Expand",
            with_bytes(|g| {
                g.node("Expand", "s shape", "w", []);
                g.node("MatMul", "x w", "y", []);
            }),
            None,
        ),
        (
            "ConstantOfShape",
            with_bytes(|g| {
                g.node("ConstantOfShape", "shape", "w", []);
                g.node("MatMul", "x w", "y", []);
            }),
            None,
        ),
        (
            "what is no weight",
            with_bytes(|g| {
                g.node("Cast", "q", "f", [("to", 1.into())]);
                g.node("ReduceMax", "f", "m", [("keepdims", 0.into())]);
                g.node("Mul", "x m", "y", []);
            }),
            None,
        ),
    ];
    let failed = failures(|graph| passes::fold_constants(graph, ort()), cases);
    assert!(failed.is_empty(), "{failed:#?}");
}
