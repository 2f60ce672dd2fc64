//! The stages of training one after the other: what each starts from, what is kept, and runs that are stopped in any.

use dfq_onnx::onnx;
use serde_json::Value;

use super::models;
use crate::support::program::{as_typed, files, interrupted, run};

const STEPS: u64 = 40;
const RUN: &str = "quantize {fixtures}/digits_mobilenet.onnx --precision w3a4 --all-layers --recipe cascade \
                   --stages reconstruct,distil,adversarial --images 40 --batch 16 --steps 40 --samples 8 -o out.onnx";

/// Asserts that each stage was kept only where it did better, and that the next one starts from what was kept.
pub fn each_is_judged(stages: &[Value]) {
    let mut last = None;
    for stage in stages {
        let held_out = &stage["held_out"];
        let [before, after] = [0, 1].map(|i| held_out["distance"][i].as_f64().unwrap());
        let is_kept = held_out["is_kept"] == true;
        let kinds = held_out["other_kinds"].as_array().unwrap();
        let gain = |kind: &Value| kind["sqnr_db"][1].as_f64().unwrap() - kind["sqnr_db"][0].as_f64().unwrap();
        assert_eq!(kinds.len(), 3, "{held_out}");
        assert_eq!(is_kept, after < before && kinds.iter().map(gain).sum::<f64>() > 0.0, "{held_out}");
        assert!((0.0..=1.0).contains(&held_out["agreement"][1].as_f64().unwrap()), "{held_out}");
        assert!(last.is_none_or(|last| before == last), "{held_out}");
        last = Some(if is_kept { after } else { before });
    }
}

#[test]
fn every_stage_is_judged_on_inputs_that_it_did_not_see_and_the_next_starts_from_what_was_kept() {
    let folder = tempfile::tempdir().unwrap();
    let ran = run(folder.path(), &format!("{RUN} --format json --save-graphs graphs"));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let report = ran.json();
    assert_eq!(report["synthesis"]["options"]["images"], 40);
    let stages = report["training"].as_array().unwrap();
    let names: Vec<&str> = stages.iter().map(|stage| stage["stage"].as_str().unwrap()).collect();
    assert_eq!(names, ["reconstruct", "distil", "adversarial"]);
    each_is_judged(stages);
    for stage in stages {
        assert_eq!((&stage["samples"], &stage["leaves"]), (&Value::from(35), &Value::from(70)), "{names:?}");
        let descents = stage["descents"].as_array().unwrap();
        assert!(descents.iter().all(|descent| descent["steps"] == STEPS), "{names:?}: {descents:?}");
    }
    assert!(stages[0]["held_out"]["is_kept"] == true, "{}", stages[0]["held_out"]);
    assert!(stages[0]["descents"].as_array().unwrap().len() > 4, "blocks");
    let terms = |stage: usize| -> Vec<&str> {
        let losses = stages[stage]["descents"][0]["losses"].as_array().unwrap();
        losses.iter().map(|pair| pair[0].as_str().unwrap()).collect()
    };
    assert_eq!(terms(0), ["loss", "unsettled"]);
    assert_eq!(terms(1), ["loss", "answers", "features"]);
    assert_eq!(terms(2), ["loss", "fresh", "looks"]);
    let graphs = files(&folder.path().join("graphs"));
    for name in ["reconstruct-1.step.onnx", "distil.step.onnx", "adversarial.step.onnx"] {
        assert!(graphs.iter().any(|path| path.ends_with(name)), "{name}: {graphs:?}");
    }
}

#[test]
fn a_cascade_that_is_stopped_in_any_stage_goes_on_to_the_same_bytes() {
    let whole = tempfile::tempdir().unwrap();
    let ran = run(whole.path(), RUN);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let bytes = std::fs::read(whole.path().join("out.onnx")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut flag = "--run-folder run";
    for stopped in ["synthesis-0", "reconstruct-1", "reconstruct-4", "distil", "adversarial"] {
        let checkpoint = folder.path().join(format!("run/{stopped}.safetensors"));
        // A step may be the last of its stage, so that the stop comes in the next one, or in none.
        let ended = interrupted(folder.path(), &format!("{RUN} {flag}"), || checkpoint.exists());
        let told = String::from_utf8_lossy(&ended.stderr);
        assert!(checkpoint.exists() && ended.status.code() == Some(130), "{stopped}: {told}");
        assert!(!folder.path().join("out.onnx").exists(), "{stopped}");
        flag = "--resume run";
    }
    let ran = run(folder.path(), &format!("{RUN} --resume run --format json"));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let resumed = |stage: usize| ran.json()["training"][stage]["descents"][0]["resumed_at"].as_u64().unwrap();
    assert!(resumed(0) > 0 && resumed(1) > 0 && resumed(2) > 0);
    assert!(std::fs::read(folder.path().join("out.onnx")).unwrap() == bytes, "other bytes");
    let dry = run(folder.path(), &format!("{RUN} --resume run --dry-run"));
    assert_eq!(dry.code, Some(0), "{}", dry.stderr);
}

#[test]
fn a_budget_too_small_for_any_step_leaves_what_was_found_without_training() {
    let folder = tempfile::tempdir().unwrap();
    let flags = "--images 40 --batch 16 --max-minutes 0 --samples 8 --format json";
    let ran = run(
        folder.path(),
        &format!("quantize {{fixtures}}/digits_mobilenet.onnx --bits 4 --effort balanced -o out.onnx {flags}"),
    );
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let report = ran.json();
    let stages = report["training"].as_array().unwrap();
    assert_eq!(stages.len(), 2);
    assert!(stages.iter().all(|stage| stage["held_out"]["is_kept"] == false), "{stages:?}");
    assert!(stages.iter().all(|stage| stage["descents"][0]["steps"] == 0), "{stages:?}");
    let warnings = report["warnings"].to_string();
    assert!(warnings.contains("time_is_up") && warnings.contains("images_cut_short"), "{warnings}");
    assert!(report["ranges"].as_array().unwrap().iter().all(|range| range["source"] != "trained"));
    let fast = "quantize {fixtures}/digits_mobilenet.onnx --bits 4 --effort fast --samples 8 -o fast.onnx";
    assert_eq!(run(folder.path(), fast).code, Some(0));
    let [cut, fast] = ["out.onnx", "fast.onnx"].map(|name| std::fs::read(folder.path().join(name)).unwrap());
    assert!(cut == fast, "not what fast makes");
}

#[test]
fn a_stage_that_starts_from_something_else_is_not_taken_up() {
    let folder = tempfile::tempdir().unwrap();
    // So many images that what the blocks learn is kept, and distillation starts from it.
    let flags = "quantize {fixtures}/digits_mobilenet.onnx --bits 4 --recipe cascade --images 48 --steps 30 --batch 16 \
                 --samples 8 -o out.onnx";
    let ran = run(folder.path(), &format!("{flags} --stages distil --run-folder run"));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let ran = run(folder.path(), &format!("{flags} --stages reconstruct,distil --resume run"));
    assert!(ran.code == Some(2) && ran.stderr.contains("distil.safetensors belongs to another run"), "{}", ran.stderr);
}

#[test]
fn what_cannot_be_trained_is_quantized_without_unless_training_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    // Neither images nor vectors are fed.
    onnx::save(&models::attention(), &folder.path().join("model.onnx"), usize::MAX).unwrap();
    let flags = "quantize model.onnx --bits 7 --samples 4 --activations quantized";
    let asked = run(folder.path(), &format!("{flags} -o asked.onnx --effort balanced"));
    assert_eq!((asked.code, asked.left.len()), (Some(3), 0), "{}", asked.stderr);
    let open = as_typed(folder.path(), &format!("{flags} -o open.onnx --format json")).output().unwrap();
    assert_eq!(open.status.code(), Some(0), "{}", String::from_utf8_lossy(&open.stderr));
    let report: Value = serde_json::from_slice(&open.stdout).unwrap();
    let warnings = report["warnings"].to_string();
    assert!(warnings.contains("not_trained") && warnings.contains("neither that of images"), "{warnings}");
    assert_eq!((&report["recipe"], &report["training"]), (&"cascade".into(), &Value::Array(Vec::new())));
    run(folder.path(), &format!("{flags} -o fast.onnx --effort fast"));
    let [open, fast] = ["open.onnx", "fast.onnx"].map(|name| std::fs::read(folder.path().join(name)).unwrap());
    assert!(open == fast, "not what fast makes");
}
