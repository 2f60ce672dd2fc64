//! What ONNX Runtime's optimiser makes of files for `ort-cpu`: integer kernels, and nothing that multiplies in float.

use std::collections::BTreeMap;
use std::path::Path;

use dfq_onnx::ir::Graph;
use dfq_onnx::onnx;
use dfq_onnx::plan::{Policy, Target};
use dfq_onnx::runtime::{Engine, SessionOptions};

use crate::support::quantized::quantized;
use crate::support::{models, ort};

/// Models whose layers, sums and means must all run in integer.
const MODELS: &[&str] = &[
    "digits_mobilenet.onnx",
    "digits_resnet8.onnx",
    "dwstiny_cifar10.onnx",
    "mlperf_resnet8_cifar10.onnx",
    "mobilenetv1_025_224.onnx",
    "resnet20_cifar10.onnx",
    "resnet20_cifar10_folded.onnx",
];

/// Operators that read floats in the optimised graph only where an integer kernel was missed.
const FLOAT: &[&str] =
    &["Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "Add", "Relu", "AveragePool", "GlobalAveragePool", "MaxPool"];

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

/// Returns how often each operator stands in the graph that ONNX Runtime runs.
fn optimised(graph: &Graph) -> BTreeMap<String, usize> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("optimised.onnx");
    let options = SessionOptions { optimised_model: Some(path.clone()), ..SessionOptions::default() };
    ort().load(graph, &options).unwrap();
    let mut count = BTreeMap::new();
    for node in &onnx::load(&path).unwrap().nodes {
        *count.entry(node.op_type.clone()).or_default() += 1;
    }
    count
}

fn count(graph: &Graph, op: &str) -> usize {
    graph.nodes.iter().filter(|node| node.is(op)).count()
}

#[test]
fn every_layer_sum_and_mean_of_a_file_for_ort_cpu_runs_in_integer() {
    let mut failed = Vec::new();
    for path in models().iter().filter(|path| MODELS.contains(&name(path))) {
        let float = onnx::load(path).unwrap();
        for (weight_bits, activation_bits, per_channel, symmetric) in
            [(8, 8, true, true), (8, 8, false, true), (8, 8, true, false), (4, 4, true, true), (8, 5, true, true)]
        {
            let policy = Policy {
                target: Target::OrtCpu,
                weight_bits,
                activation_bits,
                per_channel,
                symmetric,
                ..Policy::default()
            };
            let case = format!("{} at w{weight_bits}a{activation_bits} {per_channel} {symmetric}", name(path));
            let quantized = quantized(&float, &policy).unwrap();
            let found = optimised(&quantized.emitted);
            let of = |op: &str| found.get(op).copied().unwrap_or(0);
            let float = FLOAT.iter().any(|op| of(op) > 0);
            let student = &quantized.student;
            let means = count(student, "AveragePool") + count(student, "GlobalAveragePool");
            let integer = [
                (of("QLinearConv"), count(student, "Conv")),
                (of("QGemm"), count(student, "Gemm")),
                (of("QLinearAdd"), count(student, "Add")),
                (of("QLinearAveragePool") + of("QLinearGlobalAveragePool"), means),
            ];
            if float || integer.iter().any(|(found, expected)| found != expected) {
                failed.push(format!("{case}: {found:?}"));
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
