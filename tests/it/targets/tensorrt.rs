//! Files for TensorRT.

use dfq_onnx::ir::{DType, Graph, Node};
use dfq_onnx::plan::{Plan, Target, plan};
use dfq_onnx::runtime::TractEngine;
use dfq_onnx::shape;
use dfq_onnx::verify::{Engines, VerifyOptions, verify};

use super::{network, policy};
use crate::support::build::Build;
use crate::support::net::{layer, pads};
use crate::support::ort;
use crate::support::quantized::quantized;

fn of_type<'a>(graph: &'a Graph, op: &'a str) -> impl Iterator<Item = &'a Node> {
    graph.nodes.iter().filter(move |n| n.is(op))
}

/// Returns what TensorRT would refuse or run slowly.
fn errors(graph: &Graph) -> Vec<String> {
    let mut wrong = Vec::new();
    for node in of_type(graph, "QuantizeLinear").chain(of_type(graph, "DequantizeLinear")) {
        let zero = graph.constant_of(node.input(2).unwrap()).unwrap();
        if zero.to_i64().unwrap().iter().any(|&z| z != 0) || !matches!(zero.dtype(), DType::I8 | DType::I4) {
            wrong.push(format!("{}: {} zero point", graph.describe(node), zero.dtype()));
        }
        let stored = graph.constant_of(node.input(0).unwrap()).filter(|t| t.dtype() == DType::I8);
        if stored.is_some_and(|t| t.to_i64().unwrap().contains(&-128)) {
            wrong.push(format!("{}: a weight of -128", graph.describe(node)));
        }
    }
    if of_type(graph, "Clip").count() > 0 {
        wrong.push("a Clip on integers".to_owned());
    }
    wrong
}

#[test]
fn files_for_tensorrt_are_signed_symmetric_with_float_biases_and_hold_every_check() {
    let mut failed = Vec::new();
    let float = network();
    let engines = Engines { ort: Some(ort()), tract: Some(&TractEngine) };
    for (weight_bits, opset) in [(8, 19), (4, 21), (3, 21)] {
        let made = quantized(&float, &policy(Target::TensorRt, weight_bits, 8)).unwrap();
        let graph = &made.emitted;
        let name = format!("w{weight_bits}a8");
        failed.extend(errors(graph).into_iter().map(|message| format!("{name}: {message}")));
        if graph.opset() != opset {
            failed.push(format!("{name}: opset {}", graph.opset()));
        }
        let verified = verify(&float, graph, &engines, None, &VerifyOptions::default()).unwrap();
        let checks: Vec<_> = verified.checks.iter().filter(|check| !check.passed).collect();
        // Weights of 4 bits cost a few percent each, a wrong one costs all.
        if !checks.is_empty() || verified.outputs[0].sqnr_db < 8.0 {
            failed.push(format!("{name}: {checks:#?} {:?}", verified.outputs));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn only_products_have_packed_weights_and_then_read_floats() {
    let made = quantized(&network(), &policy(Target::TensorRt, 4, 8)).unwrap();
    let alone: Vec<&str> = made.plan.weight_only.iter().map(|l| l.name.as_str()).collect();
    assert_eq!(alone, ["h"]);
    let packed: Vec<&str> = made.plan.weights.iter().filter(|w| w.packed).map(|w| w.tensor.as_str()).collect();
    assert_eq!(packed, ["h_w"]);
    let graph = &made.emitted;
    let reader = of_type(graph, "Gemm").find(|n| n.output(0) == graph.find("h")).unwrap();
    assert_eq!(graph.name_of(reader.input(0).unwrap()), "f");
    let integers = graph.constant_of(graph.find("c2_w_quantized").unwrap()).unwrap();
    assert_eq!(integers.dtype(), DType::I8);
    assert!(integers.to_i64().unwrap().iter().all(|q| (-8..8).contains(q)), "4 bits in a byte");
}

fn quantized_tensors(plan: &Plan) -> Vec<&str> {
    plan.activations.iter().flat_map(|a| &a.quantized).map(String::as_str).collect()
}

#[test]
fn a_sum_takes_one_quantized_operand_and_a_layer_feeds_it_directly() {
    let block = |shortcut: &dyn Fn(&mut Build)| {
        let mut g = Build::at(13);
        g.input("x", &[2, 3, 8, 8]);
        layer(&mut g, "Conv", "x", "c1", &[16, 3, 3, 3], 16, pads(1));
        g.node("Relu", "c1", "r1", []);
        layer(&mut g, "Conv", "r1", "c2", &[16, 16, 3, 3], 16, pads(1));
        shortcut(&mut g);
        g.node("Relu", "s", "r2", []);
        layer(&mut g, "Conv", "r2", "y", &[16, 16, 3, 3], 16, pads(1));
        let mut graph = g.outputs("y");
        shape::infer(&mut graph).unwrap();
        plan(&graph, &policy(Target::TensorRt, 8, 8)).unwrap()
    };
    let plain = block(&|g| g.node("Add", "c2 r1", "s", []));
    let projected = block(&|g| {
        layer(g, "Conv", "r1", "d", &[16, 16, 1, 1], 16, []);
        g.node("Add", "c2 d", "s", []);
    });
    let pooled = block(&|g| {
        g.node("Sigmoid", "r1", "p", []);
        g.node("Add", "p c2", "s", []);
    });
    let unfused = block(&|g| {
        g.node("Sigmoid", "c2", "a", []);
        g.node("Sigmoid", "r1", "b", []);
        g.node("Add", "a b", "s", []);
    });
    let cases = [
        ("the input of the block", plain, ["x", "r1", "r2"].to_vec()),
        ("a projection: the later layer is fused", projected, ["x", "r1", "c2", "r2"].to_vec()),
        ("something computed", pooled, ["x", "r1", "r2", "p"].to_vec()),
        ("no layer to fuse with", unfused, ["x", "r1", "r2"].to_vec()),
    ];
    let mut failed = Vec::new();
    for (name, plan, mut expected) in cases {
        let mut found = quantized_tensors(&plan);
        found.sort_unstable();
        expected.sort_unstable();
        if found != expected {
            failed.push(format!("{name}: {found:?}"));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn inputs_of_a_concat_share_a_scale_even_where_its_result_stays_float() {
    let mut g = Build::at(13);
    g.input("x", &[2, 3, 8, 8]);
    layer(&mut g, "Conv", "x", "c1", &[16, 3, 3, 3], 16, pads(1));
    g.node("Relu", "c1", "r1", []);
    layer(&mut g, "Conv", "r1", "c2", &[16, 16, 3, 3], 16, pads(1));
    g.node("Relu", "c2", "r2", []);
    layer(&mut g, "Conv", "r2", "y", &[16, 16, 3, 3], 16, pads(1));
    g.node("Concat", "r1 r2", "z", [("axis", 1.into())]);
    let made = quantized(&g.outputs("y z"), &policy(Target::TensorRt, 8, 8)).unwrap();
    let scale = |name: &str| {
        let id = made.emitted.find(name);
        of_type(&made.emitted, "QuantizeLinear").find(|n| n.input(0) == id).unwrap().input(1)
    };
    assert_eq!(scale("r1"), scale("r2"));
}

#[test]
fn layers_that_tensorrt_runs_slower_in_integers_stay_float_with_their_reason() {
    let mut g = Build::at(13);
    g.input("x", &[1, 3, 8, 8]);
    layer(&mut g, "Conv", "x", "c1", &[16, 3, 3, 3], 16, pads(1));
    layer(&mut g, "Conv", "c1", "c2", &[12, 16, 3, 1], 12, []);
    layer(&mut g, "Conv", "c2", "c3", &[16, 12, 3, 3], 16, []);
    g.node("GlobalAveragePool", "c3", "m", []);
    g.node("Flatten", "m", "f", []);
    layer(&mut g, "Gemm", "f", "h", &[16, 24], 24, []);
    layer(&mut g, "Gemm", "h", "y", &[24, 5], 5, []);
    let mut graph = g.outputs("y");
    shape::infer(&mut graph).unwrap();
    let plan = plan(&graph, &policy(Target::TensorRt, 8, 8)).unwrap();
    let float: Vec<(&str, bool)> =
        plan.float.iter().filter(|f| f.is_layer()).map(|f| (f.name.as_str(), f.reason.contains("slower"))).collect();
    assert_eq!(float, [("c2", true), ("h", true), ("y", true)]);
    let layers: Vec<&str> = plan.layers.iter().map(|l| l.name.as_str()).collect();
    assert_eq!(layers, ["c1", "c3"]);
}
