//! Models whose inputs are no single image, whose outputs are no logits, or whose numbers are not float32.

use std::path::Path;

use dfq_onnx::ir::DType;
use dfq_onnx::onnx;

use crate::heads;
use crate::support::nets::{net_of, net_with_a_middle_of};
use crate::support::program::run;

/// Says how training of `model.onnx` goes wrong.
fn failure(folder: &Path) -> Option<String> {
    let flags = "--recipe lsq --bits 4 --all-layers --steps 45 --batch 4 --samples 4 --format json";
    let batch_fits = |ran: &crate::support::program::Ran| !ran.stderr.contains("fixes its batch");
    let mut ran = run(folder, &format!("quantize model.onnx -o out.onnx {flags}"));
    if !batch_fits(&ran) {
        ran = run(folder, &format!("quantize model.onnx -o out.onnx {}", flags.replace("--batch 4", "")));
    }
    if ran.code == Some(3) {
        // An operator may have no gradient rule yet, but it has to be named together with the way out.
        let told = ["error: node \"", "no gradient rule", "use a recipe that does not train"];
        return (!told.iter().all(|text| ran.stderr.contains(text))).then_some(ran.stderr);
    }
    if ran.code != Some(0) {
        return Some(format!("exit {:?}: {}", ran.code, ran.stderr));
    }
    let report = ran.json();
    let stage = &report["training"][0];
    let losses = stage["descents"][0]["losses"][0][1].as_array().unwrap();
    let losses: Vec<f64> = losses.iter().map(|loss| loss.as_f64().unwrap()).collect();
    let is_kept = stage["held_out"]["is_kept"] == true;
    let trained = report["ranges"].as_array().unwrap().iter().all(|range| (range["source"] == "trained") == is_kept);
    let sound = losses.len() == 45 && losses.iter().all(|loss| *loss > -1e-6);
    (!trained || !sound).then(|| format!("trained: {trained}, {losses:?}"))
}

#[test]
fn models_of_every_kind_are_trained_or_refused_with_advice() {
    let mut models: Vec<(String, Vec<u8>)> =
        heads::cases().into_iter().map(|(name, graph, _)| (name.to_owned(), onnx::encode(&graph).unwrap())).collect();
    models.extend([DType::F16, DType::F64].map(|dtype| (format!("{dtype}"), net_of(dtype))));
    models
        .extend([DType::F16, DType::F64].map(|dtype| (format!("{dtype} in the middle"), net_with_a_middle_of(dtype))));
    let mut failed = Vec::new();
    for (name, bytes) in models {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("model.onnx"), bytes).unwrap();
        failed.extend(failure(folder.path()).map(|message| format!("{name}: {message}")));
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
