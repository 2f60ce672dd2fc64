//! What ONNX Runtime's optimiser makes of files for `ort-cpu`: integer kernels, and nothing that multiplies in float.

use std::collections::BTreeMap;
use std::path::Path;

use dfq_onnx::ir::Graph;
use dfq_onnx::onnx;
use dfq_onnx::plan::{Policy, Target};
use dfq_onnx::runtime::TractEngine;
use dfq_onnx::verify::{self, VerifyOptions};

use crate::emission::network;
use crate::support::optimised::optimised;
use crate::support::quantized::{Quantized, quantized};
use crate::support::{fixture, models, ort};

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

/// Operators that have an integer kernel under another name.
const FLOAT: &[&str] =
    &["Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "Add", "Relu", "AveragePool", "GlobalAveragePool", "Concat"];

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

/// Returns how often each operator stands in the graph that ONNX Runtime runs.
fn operators(graph: &Graph) -> BTreeMap<String, usize> {
    let mut count = BTreeMap::new();
    for node in &optimised(graph).nodes {
        *count.entry(node.op_type.clone()).or_default() += 1;
    }
    count
}

fn count(graph: &Graph, op: &str) -> usize {
    graph.nodes.iter().filter(|node| node.is(op)).count()
}

/// Returns how many Convs make logits, which stay float: no layer and no sum lies behind them.
fn heads(graph: &Graph) -> usize {
    let mut leads_on = std::collections::HashSet::new();
    let mut heads = 0;
    for node in graph.nodes.iter().rev() {
        let behind = node.outputs.iter().flatten().any(|id| leads_on.contains(id));
        let layer = ["Conv", "Gemm", "MatMul", "Add"].contains(&node.op_type.as_str());
        heads += usize::from(node.is("Conv") && !behind);
        if behind || layer {
            leads_on.extend(node.inputs.iter().flatten().copied());
        }
    }
    heads
}

/// Says which operators run in float in `emitted` that have an integer kernel.
fn missed(Quantized { float: student, emitted, plan, .. }: &Quantized) -> Option<String> {
    let kept = plan.float.iter().filter(|float| float.is_layer()).count();
    let found = operators(emitted);
    let of = |op: &str| found.get(op).copied().unwrap_or(0);
    let written = |op: &str| count(student, op);
    let integer = [
        (of("QLinearConv"), written("Conv") - heads(student) - kept),
        (of("QGemm"), written("Gemm")),
        (of("QLinearAdd"), written("Add")),
        (of("QLinearConcat"), written("Concat")),
        (of("QLinearAveragePool"), written("AveragePool")),
        (of("QLinearGlobalAveragePool"), written("GlobalAveragePool")),
    ];
    let float_convs = of("Conv") + of("FusedConv");
    let others = FLOAT.iter().filter(|op| !op.ends_with("Conv"));
    let fused = integer.iter().all(|(found, expected)| found == expected)
        && others.map(|op| of(op)).sum::<usize>() == 0
        && float_convs == heads(student) + kept;
    // These have no integer kernel, a head reads input, weight and bias as floats, and what layers read on fewer bits than
    // sums goes from one grid to another; nothing else may.
    let floats = written("Pad") + written("Softmax") + 3 * heads(student) + written("Identity");
    (!fused || of("DequantizeLinear") > floats).then(|| format!("{found:?}"))
}

#[test]
fn every_layer_sum_and_mean_of_a_file_for_ort_cpu_runs_in_integer() {
    let mut failed = Vec::new();
    let paths = models().into_iter().filter(|path| MODELS.contains(&name(path)));
    let mut graphs: Vec<_> = paths.map(|path| (name(&path).to_owned(), onnx::load(&path).unwrap())).collect();
    graphs.push(("all cases".to_owned(), network()));
    for (name, float) in &graphs {
        for (weight_bits, activation_bits, per_channel, symmetric) in
            [(8, 8, true, true), (8, 8, false, true), (8, 8, true, false), (4, 4, true, true), (8, 5, true, true)]
        {
            let target = Target::OrtCpu;
            let policy = Policy { target, weight_bits, activation_bits, per_channel, symmetric, ..Policy::default() };
            let made = quantized(float, &policy).unwrap();
            if let Some(message) = missed(&made) {
                let form = format!("per channel {per_channel}, symmetric {symmetric}");
                failed.push(format!("{name} at w{weight_bits}a{activation_bits}, {form}: {message}"));
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn a_layer_that_the_user_keeps_float_stays_float_in_onnx_runtime_too() {
    let float = onnx::load(&fixture("digits_mobilenet.onnx")).unwrap();
    let mut failed = Vec::new();
    for target in [Target::Onnx, Target::OrtCpu] {
        for exclude in ["/stem/stem.0/Conv", "/body/body.1/net/net.3/Conv", "/body/body.*/net/net.3/Conv"] {
            let policy = Policy { target, exclude: vec![exclude.to_owned()], ..Policy::default() };
            let made = quantized(&float, &policy).unwrap();
            let engines = verify::Engines { ort: Some(ort()), tract: Some(&TractEngine) };
            let options = VerifyOptions { samples: 8, ..VerifyOptions::default() };
            let found = verify::verify(&float, &made.emitted, &engines, None, &options).unwrap();
            failed.extend(found.checks.iter().filter(|c| !c.passed).map(|c| format!("{target:?} {exclude}: {c:?}")));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
