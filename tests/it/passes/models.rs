//! Whole models through the lists of passes.

use std::collections::BTreeMap;

use dfq_onnx::ir::{Graph, check, text};
use dfq_onnx::onnx;
use dfq_onnx::passes::{NORMALISE, fold, normalise};
use dfq_onnx::runtime::TractEngine;

use super::SAME;
use crate::support::net::same_outputs;
use crate::support::{models, ort};

fn operators(graph: &Graph) -> BTreeMap<String, usize> {
    let mut count = BTreeMap::new();
    for node in &graph.nodes {
        *count.entry(node.op_type.clone()).or_default() += 1;
    }
    count
}

fn folded(graph: &Graph) -> Graph {
    let mut folded = graph.clone();
    fold(&mut folded).unwrap();
    folded
}

#[test]
fn exporter_noise_is_gone_from_raw_residual_networks() {
    let cases = [
        ("resnet20_cifar10.onnx", 19, 19),
        ("resnet20_cifar10_clean.onnx", 19, 19),
        ("resnet20_cifar10_folded.onnx", 19, 0),
        ("resnet32_cifar10.onnx", 31, 31),
    ];
    let mut failed = Vec::new();
    for path in models() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let Some((_, convs, norms)) = cases.iter().find(|case| case.0 == name) else { continue };
        let mut graph = onnx::load(&path).unwrap();
        normalise(&mut graph, ort()).unwrap();
        let mut expected: BTreeMap<String, usize> = [
            ("Conv", *convs),
            ("BatchNormalization", *norms),
            ("Relu", *convs),
            ("Add", (convs - 1) / 2),
            ("Slice", 4),
        ]
        .into_iter()
        .chain([("Pad", 2), ("AveragePool", 1), ("Reshape", 1), ("Gemm", 1)])
        .map(|(op, n)| (op.to_owned(), n))
        .collect();
        expected.retain(|_, n| *n > 0);
        if operators(&graph) != expected {
            failed.push(format!("{name}: {:?}", operators(&graph)));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn every_model_computes_the_same_normalised_by_either_engine_and_is_then_left_alone() {
    let mut failed = Vec::new();
    for path in models() {
        let graph = onnx::load(&path).unwrap();
        let (mut by_ort, mut by_tract) = (graph.clone(), graph.clone());
        normalise(&mut by_ort, ort()).unwrap();
        normalise(&mut by_tract, &TractEngine).unwrap();
        if text(&by_ort) != text(&by_tract) {
            failed.push(format!("{}: the engines fold to different graphs", path.display()));
        }
        let again = normalise(&mut by_ort, ort()).unwrap();
        if again.iter().any(|(_, changes)| *changes > 0) {
            failed.push(format!("{}: a second time changes {again:?}", path.display()));
        }
        for (name, after) in [("normalised", &by_ort), ("folded", &folded(&by_ort))] {
            let same = check(after).map_err(|e| e.to_string()).and_then(|()| same_outputs(&graph, after, SAME));
            failed.extend(same.err().map(|message| format!("{}, {name}: {message}", path.display())));
        }
    }
    assert_eq!(NORMALISE.first().map(|row| row.0), Some("freeze_initializer_inputs"));
    assert!(failed.is_empty(), "{failed:#?}");
}
