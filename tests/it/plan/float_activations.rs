//! Layers of which the weight alone is quantized, since what they read is to stay float.

use std::collections::BTreeMap;

use dfq_onnx::ir::Tensor;
use dfq_onnx::plan::{FloatActivations, Policy, plan};
use dfq_onnx::shape;
use dfq_onnx::stats::Guessed;

use super::{bits, conv, small};

/// Grids, layers on them, and layers of which the weight alone is quantized, by the names of tensors.
fn placed(graph: &dfq_onnx::ir::Graph, float_activations: FloatActivations) -> [String; 3] {
    let mut graph = graph.clone();
    shape::infer(&mut graph).unwrap();
    let plan = plan(&graph, &Policy { float_activations, ..bits(8, 8) }).unwrap();
    let joined = |names: Vec<&str>| names.join(" ");
    [
        joined(plan.activations.iter().map(|grid| grid.roots[0].as_str()).collect()),
        joined(plan.layers.iter().map(|layer| layer.output.as_str()).collect()),
        joined(plan.weight_only.iter().map(|layer| layer.output.as_str()).collect()),
    ]
}

#[test]
fn inputs_that_are_to_stay_float_are_on_no_grid() {
    let residual = small(|g| {
        conv(g, "x", "c1");
        g.node("Relu", "c1", "r1", []);
        conv(g, "r1", "c2");
        g.node("Add", "c2 r1", "s", []);
        g.node("Relu", "s", "r2", []);
        conv(g, "r2", "y");
    });
    let product = small(|g| {
        conv(g, "x", "a");
        conv(g, "x", "b");
        g.node("MatMul", "a b", "y", []);
    });
    let spectrum = small(|g| {
        g.constant("two", Tensor::from_f32(&[], &[2.0]));
        conv(g, "x", "a");
        conv(g, "x", "b");
        g.node("Pow", "a two", "p", []);
        g.node("Mul", "b b", "q", []);
        g.node("Add", "p q", "s", []);
        g.node("Sqrt", "s", "m", []);
        conv(g, "m", "y");
    });
    let guessed = |names: &str| {
        let tensors = names.split(' ').map(str::to_owned).collect();
        FloatActivations::Guessed(Guessed { tensors, within: BTreeMap::new() })
    };
    let cases = [
        ("none", &residual, FloatActivations::None, ["x r1 c2 r2", "c1 c2 y", ""]),
        ("all", &residual, FloatActivations::All, ["", "", "c1 c2 y"]),
        ("up to the sum", &residual, guessed("x c1 r1 c2"), ["r2", "y", "c1 c2"]),
        ("the shortcut", &residual, guessed("x c1 r1"), ["r2", "y", "c1 c2"]),
        ("a product", &product, FloatActivations::None, ["x a b", "a b y", ""]),
        ("a product of what is a guess", &product, guessed("b"), ["x", "a b", ""]),
        ("squares are no carriers", &spectrum, FloatActivations::None, ["x m", "a b y", ""]),
    ];
    let mut failed = Vec::new();
    for (name, graph, float, expected) in cases {
        let found = placed(graph, float);
        if found != expected.map(str::to_owned) {
            failed.push(format!("{name}: {found:?}, expected {expected:?}"));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
