//! Models whose batch the exporter fixed.

use std::path::Path;

use dfq_onnx::ir::{Dim, Graph};
use dfq_onnx::{onnx, passes};
use serde_json::Value;

use crate::support::program::{Ran, run};
use crate::support::{fixture, ort};

const IMAGES: &str = "{fixtures}/digits_test.npz --mean 0.3 --std 0.34";

/// The fixture without normalisations, so that ranges come from inputs that are run, with this batch.
fn model(batch: &Dim) -> Graph {
    let mut graph = onnx::load(&fixture("digits_resnet8.onnx")).unwrap();
    passes::normalise(&mut graph, ort()).unwrap();
    passes::fold(&mut graph).unwrap();
    for id in graph.value_ids() {
        let value = graph.value_mut(id);
        value.declared = false;
        if let Some(first) = value.shape.as_mut().and_then(|s| s.first_mut()).filter(|dim| dim.known().is_none()) {
            *first = batch.clone();
        }
    }
    graph
}

fn ok(folder: &Path, arguments: &str) -> Ran {
    let ran = run(folder, arguments);
    assert_eq!(ran.code, Some(0), "{arguments}: {}", ran.stderr);
    ran
}

#[test]
fn a_fixed_batch_changes_neither_ranges_nor_answers() {
    let folder = tempfile::tempdir().unwrap();
    let reports: Vec<(Value, Value)> = [Dim::Symbol("N".to_owned()), Dim::Known(1), Dim::Known(3)]
        .iter()
        .map(|batch| {
            onnx::save(&model(batch), &folder.path().join("model.onnx"), usize::MAX).unwrap();
            let flags = "--samples 20 --precision w8a8 --format json";
            let report = ok(folder.path(), &format!("quantize model.onnx -o out.onnx {flags} --eval {IMAGES}")).json();
            let emitted = onnx::load(&folder.path().join("out.onnx")).unwrap();
            let found = &emitted.value(emitted.inputs[0]).shape.as_ref().unwrap()[0];
            assert_eq!(found, batch);
            ok(folder.path(), "verify model.onnx out.onnx --samples 20");
            let evaluation = ok(folder.path(), &format!("eval out.onnx {IMAGES} --limit 100 --format json")).json();
            (report, evaluation)
        })
        .collect();
    let free = &reports[0];
    for (report, evaluation) in &reports[1..] {
        assert!(report["ranges"].as_array().unwrap().iter().any(|r| r["source"] == "synthetic_inputs"));
        assert_eq!(report["verification"]["samples"].as_u64().unwrap() / 20, 1);
        for key in ["float_correct", "quantized_correct", "agreeing"] {
            assert_eq!(report["evaluation"][key], free.0["evaluation"][key], "{key}");
        }
        assert_eq!((&evaluation["images"], &evaluation["correct"]), (&free.1["images"], &free.1["correct"]));
    }
    assert_eq!(reports[1].0["ranges"], free.0["ranges"], "32 samples one by one give the ranges of 32 at once");
}
