//! The sequential refit of `fast`, over all forms of a weight and of a network.

use dfq_onnx::onnx;
use dfq_onnx::passes;
use serde_json::Value;

use crate::support::fixture;
use crate::support::program::run;

/// Returns the steps of the refit in a report.
fn refits(report: &Value) -> Vec<Value> {
    let steps = report["steps"].as_array().unwrap();
    steps.iter().filter(|step| step["step"] == "refit").cloned().collect()
}

#[test]
fn every_form_of_weight_and_network_is_refitted_or_says_why_not() {
    let mut failed = Vec::new();
    let forms =
        ["", "--per-tensor", "--affine", "--all-layers", "--all-layers --per-tensor --affine", "--target ort-cpu"];
    let models = [
        ("residual", "digits_resnet8.onnx"),
        ("depthwise", "digits_mobilenet.onnx"),
        ("fixed batch", "digits_mobilenet.onnx"),
    ];
    for (model, file) in models {
        let folder = tempfile::tempdir().unwrap();
        let mut graph = onnx::load(&fixture(file)).unwrap();
        if model == "fixed batch" {
            passes::fix_batch(&mut graph, 1).unwrap();
        }
        std::fs::write(folder.path().join("m.onnx"), onnx::encode(&graph).unwrap()).unwrap();
        for form in forms {
            let fixed = "quantize m.onnx -o q.onnx --effort fast --precision w4a8 --mean 0.3 --std 0.34 --samples 4";
            let ran = run(folder.path(), &format!("{fixed} --accept broken --format json {form}"));
            let layers = ran.json()["plan"]["layers"].as_array().map_or(0, Vec::len);
            if ran.code != Some(0) || refits(&ran.json()).len() != layers {
                failed.push(format!(
                    "{model} {form}: {:?}, {} of {layers} {}",
                    ran.code,
                    refits(&ran.json()).len(),
                    ran.stderr
                ));
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn a_refit_runs_below_8_bits_beside_8_bit_activations_alone() {
    let mut failed = Vec::new();
    for (bits, is_run) in [("w8a8", false), ("w4a8", true), ("w4a4", false), ("w8a4", false)] {
        let folder = tempfile::tempdir().unwrap();
        let fixed =
            "quantize {fixtures}/digits_resnet8.onnx -o q.onnx --effort fast --samples 4 --accept broken --format json";
        let report = run(folder.path(), &format!("{fixed} --precision {bits} --mean 0.3 --std 0.34")).json();
        if refits(&report).is_empty() == is_run {
            failed.push(bits);
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}
