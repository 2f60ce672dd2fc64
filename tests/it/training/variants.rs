//! Every stage under every kind of grid, and on models that take one sample at a time: what is trained is no worse for it.

use std::path::Path;

use dfq_onnx::ir::{DType, Graph};
use dfq_onnx::onnx;
use serde_json::Value;

use crate::support::build::Build;
use crate::support::net::{layer, norm, normal, pads};
use crate::support::program::run;

const ALL: &str = "reconstruct,distil,adversarial";

/// A network of images that takes one at a time: what it joins to its features holds one sample.
fn one_at_a_time() -> Graph {
    let mut g = Build::at(17);
    g.fed("x", DType::F32, "1, 3, 8, 8");
    layer(&mut g, "Conv", "x", "c0", &[8, 3, 3, 3], 0, pads(1));
    norm(&mut g, "c0", "n0", 8);
    g.node("Relu", "n0", "r0", []);
    g.constant("map", normal(&[1, 1, 8, 8], 1.0, 3));
    g.node("Concat", "r0 map", "j", [("axis", 1.into())]);
    layer(&mut g, "Conv", "j", "c1", &[8, 9, 3, 3], 0, pads(1));
    norm(&mut g, "c1", "n1", 8);
    g.node("Relu", "n1", "r1", []);
    layer(&mut g, "Conv", "r1", "c2", &[8, 8, 3, 3], 8, pads(1));
    g.node("Relu", "c2", "r2", []);
    g.node("GlobalAveragePool", "r2", "p", []);
    g.node("Flatten", "p", "f", []);
    layer(&mut g, "Gemm", "f", "y", &[8, 4], 4, []);
    g.outputs("y")
}

/// Says what is wrong with a run of all stages, after which the held-out distance may be `worst` times that before.
fn failures(folder: &Path, model: &str, flags: &str, worst: f64) -> Vec<String> {
    let bits = "--precision w3a4 --all-layers --accept broken";
    let flags = format!("{bits} --recipe cascade --stages {ALL} --steps 30 --samples 4 {flags}");
    let ran = run(folder, &format!("quantize {model} -o out.onnx --format json {flags}"));
    if ran.code != Some(0) {
        return vec![format!("exit {:?}: {}", ran.code, ran.stderr)];
    }
    let report = ran.json();
    let wrong = ALL.split(',').enumerate().filter_map(|(number, stage)| {
        let trained = &report["training"][number];
        let descents = trained["descents"].as_array()?;
        let done = !descents.is_empty() && descents.iter().all(|descent| descent["steps"] == 30);
        let [before, after] = [0, 1].map(|i| trained["held_out"]["distance"][i].as_f64().unwrap_or(f64::NAN));
        let is_sound = trained["stage"] == *stage && done && after.is_finite() && after < worst * before;
        (!is_sound).then(|| format!("{stage}: {before} to {after}, {descents:?}"))
    });
    wrong.collect()
}

#[test]
fn every_stage_trains_every_kind_of_grid_and_networks_of_one_sample() {
    let folder = tempfile::tempdir().unwrap();
    onnx::save(&one_at_a_time(), &folder.path().join("one.onnx"), usize::MAX).unwrap();
    let digits = "{fixtures}/digits_mobilenet.onnx";
    // Thirty steps on a few images, one at a time, are no training worth its name: they must stay finite.
    let cases = [
        ("affine", digits, "--images 16 --batch 8 --affine", 1.5),
        ("affine, per tensor", digits, "--images 16 --batch 8 --affine --per-tensor", 1.5),
        ("one sample at a time", "one.onnx", "--images 4", 3.0),
        ("one image, affine", "one.onnx", "--images 2 --affine", 3.0),
    ];
    let of_case = |&(name, model, flags, worst): &(&str, &str, &str, f64)| {
        let found = failures(folder.path(), model, flags, worst);
        found.into_iter().map(|why| format!("{name}, {why}")).collect::<Vec<_>>()
    };
    let failed: Vec<String> = cases.iter().flat_map(of_case).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

/// Two stages of one run that deal batches out of the same images see other batches.
#[test]
fn stages_of_one_run_see_other_batches() {
    let folder = tempfile::tempdir().unwrap();
    let first_loss = |stage: &str, term: &str| -> f64 {
        let flags = "--bits 4 --all-layers --accept broken --recipe cascade --images 32 --batch 8 --steps 1 --samples 4 --format json";
        let model = "{fixtures}/digits_mobilenet.onnx";
        let ran = run(folder.path(), &format!("quantize {model} -o out.onnx {flags} --stages {stage}"));
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        let losses = ran.json()["training"][0]["descents"][0]["losses"].clone();
        let found = losses.as_array().unwrap().iter().find(|pair| pair[0] == *term).cloned();
        found.and_then(|pair: Value| pair[1][0].as_f64()).unwrap()
    };
    // Both are how far the same student is from the same teacher on the first batch.
    let [distil, adversarial] = [first_loss("distil", "loss"), first_loss("adversarial", "loss")];
    assert!((distil - adversarial).abs() > 1e-4 * distil, "{distil} twice");
}
