//! A graph that was upgraded computes what it computed before.

mod cases;
mod widened;

use std::collections::BTreeSet;

use dfq_onnx::ir::{Attr, DType, Graph, Tensor, check};
use dfq_onnx::onnx::{self, opset};
use dfq_onnx::runtime::{Engine, SessionOptions};

use crate::support::build::Build;
use crate::support::{models, ort, random_inputs};

/// Room for another order of summation; inputs are standard-normal.
const TOLERANCE: f32 = 1e-6;

/// Operators whose newer versions ONNX Runtime 1.31 does not have on the CPU, with the last opset that runs.
const LAST_IN_ORT: &[(&str, i64)] = &[("RoiAlign", 21)];

/// Steps of graphs that ONNX Runtime 1.31 does not survive; `drops_absent_statistics` and `refused` have them.
const NOT_RUN: &[(&str, i64)] = &[("BatchNormalization", 14)];

#[test]
fn every_rewritten_operator_computes_the_same_at_every_later_opset() {
    let mut failed = Vec::new();
    let mut rewritten: BTreeSet<_> = NOT_RUN.iter().map(|(op, version)| ((*op).to_owned(), *version)).collect();
    for (name, graph) in cases::cases().into_iter().chain(widened::cases()) {
        let from = graph.opset();
        let inputs = random_inputs(&graph, 2, 7);
        let expected = match run(&graph, &inputs) {
            Ok(outputs) => outputs,
            Err(message) => {
                failed.push(format!("{name}, opset {from}: {message}"));
                continue;
            }
        };
        for target in from + 1..=newest_that_runs(&graph) {
            let mut newer = graph.clone();
            let outcome = opset::upgrade(&mut newer, target).and_then(|report| check(&newer).map(|()| report));
            match outcome.map_err(|e| e.to_string()) {
                Ok(report) => rewritten.extend(report.into_iter().map(|u| (u.op, u.to))),
                Err(message) => {
                    failed.push(format!("{name}, opset {from} to {target}: {message}"));
                    continue;
                }
            }
            let difference = run(&newer, &inputs).and_then(|found| equal(&found, &expected));
            if let Err(message) = difference {
                failed.push(format!("{name}, opset {from} to {target}: {message}"));
            }
        }
    }
    for (op, version) in opset::rewrites() {
        if !rewritten.contains(&(op.to_owned(), version)) {
            failed.push(format!("{op} {version}: no case rewrites it"));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn every_model_computes_the_same_at_opsets_13_and_21() {
    let mut failed = Vec::new();
    for path in models() {
        let graph = onnx::load(&path).unwrap();
        let inputs = random_inputs(&graph, 2, 11);
        let expected = run(&graph, &inputs).unwrap();
        for target in [13, 21] {
            let mut newer = graph.clone();
            let result = opset::upgrade(&mut newer, target)
                .map_err(|e| e.to_string())
                .and_then(|_| run(&newer, &inputs))
                .and_then(|found| equal(&found, &expected));
            if let Err(message) = result {
                failed.push(format!("{}, opset {} to {target}: {message}", path.display(), graph.opset()));
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn refuses_nodes_without_a_counterpart_by_name() {
    let mut failed = Vec::new();
    for (name, graph, expected) in refused() {
        let result = opset::upgrade(&mut graph.clone(), 21);
        let message = result.map_or_else(|e| e.to_string(), |report| format!("upgraded: {report:?}"));
        if !message.contains("node producing \"y\"") || !message.contains(expected) {
            failed.push(format!("{name}: {message}"));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

/// Name, graph and a part of the message.
fn refused() -> Vec<(&'static str, Graph, &'static str)> {
    let one = |opset, op: &str, inputs: &str, outputs: &str, attrs: Vec<(&str, Attr)>| {
        let mut g = Build::at(opset);
        g.input("x", &[2, 3, 4, 4]);
        g.weights("a b c d", &[3]);
        g.node(op, inputs, outputs, []);
        let mut graph = g.outputs(outputs);
        attrs.into_iter().for_each(|(name, value)| graph.nodes[0].set(name, value));
        graph
    };
    let mut half = Build::at(10);
    half.input("x", &[2, 3]);
    half.node("Cast", "x", "h", [("to", 10.into())]);
    half.node("Clip", "h", "y", [("min", 0.0.into())]);
    let nearest =
        |mode: &str| vec![("coordinate_transformation_mode", "tf_half_pixel_for_nn".into()), ("mode", mode.into())];
    vec![
        ("training mode", one(9, "BatchNormalization", "x a b c d", "y m v", vec![]), "from opset 13 to 14"),
        ("a mask that is read", one(7, "Dropout", "x", "y mask", vec![]), "its mask is read"),
        ("Resize without floor", one(13, "Resize", "x _ a", "y", nearest("nearest")), "from opset 17 to 18"),
        ("linear Resize", one(13, "Resize", "x _ a", "y", nearest("linear")), "tf_half_pixel_for_nn"),
        ("a limit of unknown type", half.outputs("y"), "infer_shapes"),
        ("Unsqueeze without axes", one(9, "Unsqueeze", "x", "y", vec![]), "\"axes\" is missing"),
        ("axes of another kind", one(9, "Squeeze", "x", "y", vec![("axes", 1.into())]), "not a list of integers"),
        ("no k", one(9, "TopK", "x", "y", vec![]), "\"k\" is missing"),
        (
            "a batch axis of Scan",
            one(8, "Scan", "x", "y", vec![]),
            "from opset 8 to 9: Scan no longer has a batch axis",
        ),
        ("an operator of no table", one(9, "SplitToSequence", "x", "y", vec![]), "from opset 9 to 21"),
    ]
}

#[test]
fn drops_absent_statistics_of_batch_normalization() {
    let mut g = Build::at(9);
    g.input("x", &[2, 3]);
    g.weights("a b c d", &[3]);
    g.node("BatchNormalization", "x a b c d", "y _ _ _ _", []);
    let mut graph = g.outputs("y");
    opset::upgrade(&mut graph, 13).unwrap();
    assert_eq!(graph.nodes[0].outputs.len(), 5);
    opset::upgrade(&mut graph, 14).unwrap();
    assert_eq!(graph.nodes[0].outputs, [graph.find("y")]);
}

#[test]
fn states_the_axis_of_softmax_where_both_meanings_agree() {
    let mut failed = Vec::new();
    for (name, shape, axis, nodes) in [
        ("default axis of a matrix", vec![2, 3], None, 1),
        ("negative last axis", vec![2, 3, 4], Some(-1), 1),
        ("only ones after the axis", vec![2, 3, 1, 1], None, 1),
        ("several values after the axis", vec![2, 3, 4, 1], None, 4),
        ("axis before the last", vec![2, 3, 4], Some(-2), 4),
    ] {
        let mut g = Build::at(12);
        g.input("x", &shape);
        g.node("Softmax", "x", "y", []);
        let mut graph = g.outputs("y");
        if let Some(axis) = axis {
            graph.nodes[0].set("axis", axis);
        }
        opset::upgrade(&mut graph, 13).unwrap();
        if graph.nodes.len() != nodes {
            failed.push(format!("{name}: expected {nodes} nodes, found {}", graph.nodes.len()));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn reports_what_was_rewritten_per_operator_and_step() {
    let mut g = Build::at(9);
    g.input("x", &[1, 1, 2, 2]);
    g.constant("scales", Tensor::from_f32(&[4], &[1.0, 1.0, 2.0, 2.0]));
    g.node("Relu", "x", "r", []);
    g.node("Upsample", "r scales", "u", []);
    g.node("Clip", "u", "v", [("min", 0.0.into())]);
    g.node("Clip", "v", "y", [("max", 1.0.into())]);
    let mut graph = g.outputs("y");
    let report = opset::upgrade(&mut graph, 13).unwrap();
    let report: Vec<_> = report.iter().map(|u| (u.op.as_str(), u.from, u.to, u.count)).collect();
    assert_eq!(report, [("Upsample", 9, 10, 1), ("Resize", 10, 11, 1), ("Clip", 10, 11, 2)]);
}

fn newest_that_runs(graph: &Graph) -> i64 {
    let last = |(op, last): &(&str, i64)| graph.nodes.iter().any(|node| node.is(op)).then_some(*last);
    LAST_IN_ORT.iter().find_map(last).unwrap_or(opset::NEWEST)
}

fn run(graph: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>, String> {
    let mut session = ort().load(graph, &SessionOptions::default()).map_err(|e| e.to_string())?;
    session.run(inputs).map_err(|e| e.to_string())
}

fn equal(found: &[Tensor], expected: &[Tensor]) -> Result<(), String> {
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        if (found.dtype(), found.shape()) != (expected.dtype(), expected.shape()) {
            return Err(format!(
                "output {i}: expected {} {:?}, found {} {:?}",
                expected.dtype(),
                expected.shape(),
                found.dtype(),
                found.shape()
            ));
        }
        if expected.dtype() != DType::F32 {
            if found != expected {
                return Err(format!("output {i} differs"));
            }
            continue;
        }
        let (found, expected) = (found.to_f32().unwrap(), expected.to_f32().unwrap());
        let worst = found.iter().zip(&expected).map(|(f, e)| (f - e).abs() / e.abs().max(1.0));
        if let Some(worst) = worst.into_iter().find(|worst| worst.is_nan() || *worst > TOLERANCE) {
            return Err(format!("output {i} differs by {worst}"));
        }
    }
    Ok(())
}
