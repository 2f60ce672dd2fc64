//! Emitted graphs of real networks and of the network of all cases, in both runtimes.

use dfq_onnx::onnx;
use dfq_onnx::runtime::TractEngine;
use dfq_onnx::stats::guess_input;
use dfq_onnx::verify::{Engines, VerifyOptions, verify};

use super::{network, policies, quantized, structure_errors};
use crate::support::{fixture, ort};

#[test]
fn emitted_graphs_pass_every_hard_check_in_both_runtimes() {
    let mut failed = Vec::new();
    let fixtures = ["digits_resnet8.onnx", "digits_mobilenet.onnx"];
    let mut graphs: Vec<_> = fixtures.map(|name| (name, onnx::load(&fixture(name)).unwrap())).into();
    graphs.push(("all cases", network()));
    let engines = Engines { ort: Some(ort()), tract: Some(&TractEngine) };
    for (graph_name, graph) in &graphs {
        for (name, policy) in policies() {
            let made = quantized(graph, &policy).unwrap();
            let folder = tempfile::tempdir().unwrap();
            let shipped = folder.path().join("quantized.onnx");
            onnx::save(&made.emitted, &shipped, onnx::INLINE_LIMIT).unwrap();
            let options = VerifyOptions { samples: 16, shipped: Some(shipped), ..VerifyOptions::default() };
            let inputs = guess_input(graph, &[]).synthetic(&made.emitted, 16, 1, 1).unwrap();
            let result = verify(graph, &made.emitted, &engines, Some(&inputs), &options).unwrap();
            if !result.passed() || result.engines.len() != 3 {
                let checks: Vec<_> = result.checks.iter().filter(|check| !check.passed).collect();
                failed.push(format!("{graph_name} at {name}: {checks:#?}"));
            }
            let wrong = structure_errors(&made, &policy);
            failed.extend(wrong.into_iter().map(|message| format!("{graph_name} at {name}: {message}")));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
