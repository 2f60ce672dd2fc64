//! Recipes: what changes the float student keeps its outputs, and what cannot is refused with the reason.

mod bytes;
mod held;
mod quantized;
mod refit;
mod sweep;

use std::collections::HashMap;

use dfq_onnx::ir::{Attr, Graph, Tensor};
use dfq_onnx::layers::{LayerStep, Scope, absorb, equalise};
use dfq_onnx::plan::{Plan, Policy, plan};
use dfq_onnx::shape;
use dfq_onnx::stats::{BatchNorm, propagate};

use crate::support::build::Build;
use crate::support::net::{layer, normal, pads, same_outputs};

/// Float rounding over a few layers; a wrong factor changes outputs by whole shares of themselves.
const ROUNDING: f64 = 1e-5;

fn per_tensor() -> Policy {
    Policy { per_channel: false, ..Policy::default() }
}

fn planned(graph: &mut Graph, policy: &Policy) -> Plan {
    shape::infer(graph).unwrap();
    plan(graph, policy).unwrap()
}

/// Returns a net of two or more layers on `x[2, 4, 6, 6]`, made by `build`.
fn net(build: impl FnOnce(&mut Build)) -> Graph {
    let mut g = Build::at(17);
    g.input("x", &[2, 4, 6, 6]);
    build(&mut g);
    g.outputs("y")
}

fn clip(g: &mut Build, x: &str, y: &str) {
    g.constant(&format!("{y}_lo"), Tensor::from_f32(&[], &[0.0]));
    g.constant(&format!("{y}_hi"), Tensor::from_f32(&[], &[0.5]));
    g.node("Clip", &format!("{x} {y}_lo {y}_hi"), y, []);
}

fn group(n: i64) -> (&'static str, Attr) {
    ("group", Attr::Int(n))
}

fn equalisable() -> Vec<(&'static str, Graph, &'static [&'static str])> {
    let pair = |op: &'static str| {
        net(|g| {
            layer(g, "Conv", "x", "a", &[6, 4, 3, 3], 6, pads(1));
            g.node(op, "a", "r", []);
            layer(g, "Conv", "r", "y", &[3, 6, 3, 3], 3, pads(1));
        })
    };
    vec![
        ("a pair", pair("Relu"), &["a"]),
        ("LeakyRelu", pair("LeakyRelu"), &["a"]),
        (
            "PRelu and no bias",
            net(|g| {
                layer(g, "Conv", "x", "a", &[6, 4, 3, 3], 0, []);
                g.constant("slope", normal(&[6, 1, 1], 0.3, 5));
                g.node("PRelu", "a slope", "r", []);
                layer(g, "Conv", "r", "y", &[3, 6, 1, 1], 0, []);
            }),
            &["a"],
        ),
        (
            "a depthwise triple between caps that bind",
            net(|g| {
                layer(g, "Conv", "x", "a", &[6, 4, 1, 1], 6, []);
                clip(g, "a", "ra");
                layer(g, "Conv", "ra", "b", &[6, 1, 3, 3], 6, [group(6), pads(1)[0].clone()]);
                clip(g, "b", "rb");
                layer(g, "Conv", "rb", "y", &[3, 6, 1, 1], 3, []);
            }),
            &["a", "b"],
        ),
        (
            "grouped convolutions",
            net(|g| {
                layer(g, "Conv", "x", "a", &[6, 2, 3, 3], 6, [group(2)]);
                g.node("Relu", "a", "r", []);
                layer(g, "Conv", "r", "y", &[6, 2, 1, 1], 6, [group(3)]);
            }),
            &["a"],
        ),
        (
            "grouped ConvTranspose",
            net(|g| {
                layer(g, "ConvTranspose", "x", "a", &[4, 3, 2, 2], 6, [group(2)]);
                g.node("Relu", "a", "r", []);
                layer(g, "ConvTranspose", "r", "y", &[6, 2, 3, 3], 2, []);
            }),
            &["a"],
        ),
        (
            "a MaxPool, a Flatten and Gemms of both orders",
            net(|g| {
                layer(g, "Conv", "x", "a", &[6, 4, 3, 3], 6, []);
                g.node("Relu", "a", "r", []);
                g.node(
                    "MaxPool",
                    "r",
                    "p",
                    [("kernel_shape", vec![2i64, 2].into()), ("strides", vec![2i64, 2].into())],
                );
                g.node("Flatten", "p", "f", []);
                layer(g, "Gemm", "f", "c", &[24, 5], 5, []);
                g.node("Relu", "c", "s", []);
                layer(g, "Gemm", "s", "y", &[3, 5], 3, [("transB", Attr::Int(1))]);
            }),
            &["a", "c"],
        ),
        (
            "a dead channel",
            {
                let mut graph = pair("Relu");
                let id = graph.find("a_w").unwrap();
                let mut values = graph.constant_of(id).unwrap().to_f32().unwrap();
                values[..36].fill(0.0);
                graph.value_mut(id).constant = Some(Tensor::from_f32(&[6, 4, 3, 3], &values));
                graph
            },
            &["a"],
        ),
    ]
}

#[test]
fn equalised_layers_have_the_outputs_of_before() {
    let mut failed = Vec::new();
    for (name, mut graph, expected) in equalisable() {
        let plan = planned(&mut graph, &per_tensor());
        let mut equalised = graph.clone();
        let steps = equalise(&mut equalised, &plan, &mut [], Scope::All, &HashMap::new()).unwrap();
        let applied: Vec<&str> = steps.iter().filter(|s| s.refused.is_none()).map(|s| s.layer.as_str()).collect();
        if applied != expected {
            failed.push(format!("{name}: applied to {applied:?}, expected {expected:?}: {steps:?}"));
        }
        if let Err(message) = same_outputs(&graph, &equalised, ROUNDING) {
            failed.push(format!("{name}: {message}"));
        }
        let weight = |graph: &Graph| graph.constant_of(graph.find(&format!("{}_w", expected[0])).unwrap()).cloned();
        if weight(&graph) == weight(&equalised) {
            failed.push(format!("{name}: the weight is what it was"));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn two_by_two_channels_are_equalised_as_by_hand() {
    let mut g = Build::at(17);
    g.input("x", &[1, 1, 2, 2]);
    g.constant("a_w", Tensor::from_f32(&[2, 1, 1, 1], &[4.0, -1.0]));
    g.constant("a_b", Tensor::from_f32(&[2], &[1.0, 1.0]));
    g.constant("y_w", Tensor::from_f32(&[1, 2, 1, 1], &[1.0, 4.0]));
    g.node("Conv", "x a_w a_b", "a", []);
    g.node("Relu", "a", "r", []);
    g.node("Conv", "r y_w", "y", []);
    let mut graph = g.outputs("y");
    let plan = planned(&mut graph, &per_tensor());
    equalise(&mut graph, &plan, &mut [], Scope::All, &HashMap::new()).unwrap();
    let values = |name: &str| graph.constant_of(graph.find(name).unwrap()).unwrap().to_f32().unwrap();
    assert_eq!((values("a_w"), values("a_b"), values("y_w")), (vec![2.0, -2.0], vec![0.5, 2.0], vec![2.0, 2.0]));
}

/// Ranges (8, 1), (1, 1) and (1, 8) meet in their geometric mean of three.
#[test]
fn a_depthwise_triple_settles_on_the_common_solution() {
    let mut g = Build::at(17);
    g.input("x", &[1, 1, 2, 2]);
    g.constant("a_w", Tensor::from_f32(&[2, 1, 1, 1], &[8.0, 1.0]));
    g.constant("b_w", Tensor::from_f32(&[2, 1, 1, 1], &[1.0, -1.0]));
    g.constant("y_w", Tensor::from_f32(&[1, 2, 1, 1], &[1.0, 8.0]));
    g.node("Conv", "x a_w", "a", []);
    g.node("Relu", "a", "ra", []);
    g.node("Conv", "ra b_w", "b", [group(2)]);
    g.node("Relu", "b", "rb", []);
    g.node("Conv", "rb y_w", "y", []);
    let mut graph = g.outputs("y");
    let plan = planned(&mut graph, &per_tensor());
    equalise(&mut graph, &plan, &mut [], Scope::All, &HashMap::new()).unwrap();
    let mut failed = Vec::new();
    for name in ["a_w", "b_w", "y_w"] {
        let values = graph.constant_of(graph.find(name).unwrap()).unwrap().to_f32().unwrap();
        if (values[0].abs() / values[1].abs() - 1.0).abs() > 1e-3 {
            failed.push((name, values));
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn what_cannot_be_equalised_is_refused_with_the_reason() {
    let two = |g: &mut Build, between: &str| {
        layer(g, "Conv", "x", "a", &[4, 4, 3, 3], 4, pads(1));
        g.node(between, "a", "r", []);
        layer(g, "Conv", "r", "b", &[4, 4, 3, 3], 4, pads(1));
    };
    let cases: Vec<(&str, Graph, Policy, &str)> = vec![
        (
            "a residual",
            net(|g| {
                two(g, "Relu");
                g.node("Add", "a b", "y", []);
            }),
            per_tensor(),
            "its result is read 2 times",
        ),
        (
            "no homogeneous function",
            net(|g| {
                two(g, "Sigmoid");
                g.node("Relu", "b", "y", []);
            }),
            per_tensor(),
            "Sigmoid does not scale with its input",
        ),
        (
            "an excluded layer",
            net(|g| {
                two(g, "Relu");
                g.node("Relu", "b", "y", []);
            }),
            Policy { exclude: vec!["b".to_owned()], ..per_tensor() },
            "the next layer is not quantized",
        ),
        (
            "a shared weight",
            net(|g| {
                layer(g, "Conv", "x", "a", &[4, 4, 3, 3], 4, pads(1));
                g.node("Relu", "a", "r", []);
                g.node("Conv", "r a_w", "y", pads(1));
            }),
            per_tensor(),
            "its weight is shared or of an unknown form",
        ),
    ];
    let mut failed = Vec::new();
    for (name, mut graph, policy, reason) in cases {
        let plan = planned(&mut graph, &policy);
        let mut equalised = graph.clone();
        let steps = equalise(&mut equalised, &plan, &mut [], Scope::All, &HashMap::new()).unwrap();
        let found = steps.iter().find(|s| s.layer == "a").and_then(|s| s.refused.as_deref());
        if found != Some(reason) {
            failed.push(format!("{name}: {found:?}, expected \"{reason}\""));
        }
        if let Err(message) = same_outputs(&graph, &equalised, 0.0) {
            failed.push(format!("{name}: {message}"));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// Every channel of `a` lies at 20 with a deviation of about 1.
fn high() -> (Graph, Vec<BatchNorm>) {
    let mut graph = net(|g| {
        g.constant("a_w", normal(&[6, 4, 1, 1], 0.2, 3));
        g.constant("a_b", Tensor::from_f32(&[6], &[20.0; 6]));
        g.node("Conv", "x a_w a_b", "a", []);
        g.node("Relu", "a", "r", []);
        layer(g, "Conv", "r", "y", &[3, 6, 3, 3], 3, []);
    });
    shape::infer(&mut graph).unwrap();
    let norm = BatchNorm {
        input: "before".to_owned(),
        output: "a".to_owned(),
        mean: vec![0.0; 6],
        variance: vec![1.0; 6],
        gamma: vec![1.0, -1.0, 1.0, 2.0, 1.0, 30.0],
        beta: vec![20.0; 6],
        epsilon: 0.0,
    };
    (graph, vec![norm])
}

#[test]
fn high_biases_move_to_the_next_layer_without_a_change_of_outputs() {
    let (graph, mut norms) = high();
    let plan = plan(&graph, &per_tensor()).unwrap();
    let mut absorbed = graph.clone();
    let steps = absorb(&mut absorbed, &plan, &mut norms).unwrap();
    let note = steps[0].note.clone();
    assert!(note.as_ref().is_some_and(|note| note.starts_with("5 channel(s), exact for 99.87 %")), "{note:?}");
    assert_eq!(steps[0], LayerStep { note, ..LayerStep::new("absorb", "a".to_owned(), None) });
    assert_eq!(norms[0].beta, [3.0, 3.0, 3.0, 6.0, 3.0, 20.0]);
    let bias = absorbed.constant_of(absorbed.find("a_b").unwrap()).unwrap().to_f32().unwrap();
    assert_eq!(bias, [3.0, 3.0, 3.0, 6.0, 3.0, 20.0]);
    same_outputs(&graph, &absorbed, ROUNDING).unwrap();
}

#[test]
fn statistics_scale_with_the_channels_that_they_describe() {
    let (graph, mut norms) = high();
    let plan = plan(&graph, &per_tensor()).unwrap();
    let input = dfq_onnx::stats::InputStatistics::assumed().moments();
    let moments = propagate(&graph, &norms, &input);
    let mut equalised = graph.clone();
    let before = norms[0].clone();
    equalise(&mut equalised, &plan, &mut norms, Scope::All, &moments).unwrap();
    let bias = equalised.constant_of(equalised.find("a_b").unwrap()).unwrap().to_f32().unwrap();
    let share = |c: usize| (norms[0].beta[c] / before.beta[c], norms[0].gamma[c] / before.gamma[c], bias[c] / 20.0);
    let shares: Vec<(f32, f32, f32)> = (0..6).map(share).collect();
    assert!(shares.iter().all(|s| (s.0 - s.1).abs() < 1e-6 * s.0 && (s.0 - s.2).abs() < 1e-6 * s.0), "{shares:?}");
    assert!(shares.iter().any(|s| (s.0 - 1.0).abs() > 0.05), "{shares:?}");
}
