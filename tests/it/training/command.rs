//! `quantize --recipe lsq` as a program: what it writes, and that nothing but the seed decides it.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use dfq_onnx::ir::{self, Tensor};
use dfq_onnx::onnx;
use dfq_onnx::runtime::{Engine, SessionOptions, TractEngine};
use serde_json::Value;

use crate::support::ort;
use crate::support::program::{Ran, files, program, run};

/// Trains the digits; the model goes to `out.onnx`.
const TRAIN: &str = "quantize {fixtures}/digits_resnet8.onnx --bits 4 --recipe lsq --samples 8 -o out.onnx";

fn train(folder: &Path, flags: &str) -> Ran {
    let ran = run(folder, &format!("{TRAIN} {flags}"));
    assert_eq!(ran.code, Some(0), "{flags}: {}\n{}", ran.stderr, ran.stdout);
    ran
}

/// Returns the bytes of the model that training writes into a folder of its own.
fn bytes(flags: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    train(folder.path(), flags);
    std::fs::read(folder.path().join("out.onnx")).unwrap()
}

fn losses(report: &Value) -> Vec<f64> {
    let losses = &report["training"][0]["descents"][0]["losses"][0];
    assert_eq!(losses[0], "loss");
    losses[1].as_array().unwrap().iter().map(|loss| loss.as_f64().unwrap()).collect()
}

#[test]
fn training_lowers_the_loss_and_the_file_holds_every_check() {
    for model in ["digits_resnet8", "digits_mobilenet"] {
        let folder = tempfile::tempdir().unwrap();
        let flags = "--recipe lsq --precision w2a4 --steps 100 --batch 16 --samples 8 --format json -o out.onnx";
        let ran = run(folder.path(), &format!("quantize {{fixtures}}/{model}.onnx {flags}"));
        assert_eq!(ran.code, Some(0), "{model}: {}", ran.stderr);
        let report = ran.json();
        let training = &report["training"];
        assert_eq!(training[0]["stage"], "distil");
        let descent = &training[0]["descents"][0];
        let numbers = ["steps", "batch", "resumed_at"].map(|key| descent[key].as_u64());
        assert_eq!(numbers, [Some(100), Some(16), Some(0)], "{model}");
        assert!(descent["step_bytes"].as_u64().unwrap() > 100_000, "{training}");
        assert_eq!(training[0]["held_out"]["is_kept"], true, "{}", training[0]["held_out"]);
        let losses = losses(&report);
        let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
        let (before, behind) = (mean(&losses[..20]), mean(&losses[80..]));
        assert!(losses.len() == 100 && behind < 0.9 * before, "{model}: {before} to {behind}");
        let ranges = report["ranges"].as_array().unwrap();
        assert!(!ranges.is_empty() && ranges.iter().all(|range| range["source"] == "trained"), "{ranges:?}");
        let written: Value =
            serde_json::from_slice(&std::fs::read(folder.path().join("out.report.json")).unwrap()).unwrap();
        assert_eq!(written["training"], *training, "{model}");
    }
}

#[test]
fn the_seed_alone_decides_the_bytes() {
    let flags = "--steps 24 --batch 8";
    let first = bytes(flags);
    assert!(first == bytes(&format!("{flags} --threads 1")), "two runs of one seed differ");
    assert!(first != bytes(&format!("{flags} --seed 1")), "two seeds give one file");
    assert!(first != bytes("--steps 25 --batch 8"), "the last step changes nothing");
}

#[test]
fn tract_trains_too() {
    let folder = tempfile::tempdir().unwrap();
    let flags = "--engine tract --steps 40 --batch 8 --format json";
    let report = train(folder.path(), flags).json();
    let losses = losses(&report);
    let [before, behind] = [&losses[..10], &losses[30..]].map(|part| part.iter().sum::<f64>());
    assert!(losses.len() == 40 && behind < before, "{before} to {behind}");
    let first = std::fs::read(folder.path().join("out.onnx")).unwrap();
    assert!(first == bytes(flags), "two runs in tract differ");
}

#[test]
fn a_run_that_is_killed_and_resumed_writes_the_bytes_of_one_that_is_not() {
    let flags = "--steps 200 --batch 8";
    let whole = bytes(flags);
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = folder.path().join("run/distil.safetensors");
    let mut command = program(folder.path(), &format!("{TRAIN} {flags} --run-folder run"));
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let started = Instant::now();
    while !checkpoint.exists() && child.try_wait().unwrap().is_none() && started.elapsed() < Duration::from_secs(300) {
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success(), "it ended before it was killed");
    assert!(checkpoint.exists() && !folder.path().join("out.onnx").exists(), "{:?}", files(folder.path()));
    let report = train(folder.path(), &format!("{flags} --resume run --format json")).json();
    let resumed = report["training"][0]["descents"][0]["resumed_at"].as_u64().unwrap();
    assert!((20..200).contains(&resumed), "resumed at {resumed}");
    assert_eq!(losses(&report).len(), 200);
    assert!(std::fs::read(folder.path().join("out.onnx")).unwrap() == whole, "other bytes");
    // Once more from the last checkpoint: no step is left.
    let report = train(folder.path(), &format!("{flags} --resume run --format json")).json();
    assert_eq!(report["training"][0]["descents"][0]["resumed_at"], 200);
    assert!(std::fs::read(folder.path().join("out.onnx")).unwrap() == whole, "other bytes at the second time");
}

#[test]
fn saved_step_graphs_are_sound_and_run() {
    let folder = tempfile::tempdir().unwrap();
    train(folder.path(), "--steps 2 --batch 4 --save-graphs graphs/of/steps");
    let graph = onnx::load(&folder.path().join("graphs/of/steps/distil.step.onnx")).unwrap();
    ir::check(&graph).unwrap();
    let zeros = |id| {
        let shape = graph.value(id).static_shape().unwrap();
        Tensor::from_f32(&shape, &vec![0.0; shape.iter().product()])
    };
    let inputs: Vec<Tensor> = graph.fed_inputs().into_iter().map(zeros).collect();
    for engine in [ort() as &dyn Engine, &TractEngine] {
        let made = engine.load(&graph, &SessionOptions::default()).unwrap().run(&inputs).unwrap();
        let shapes: Vec<&[usize]> = made.iter().map(Tensor::shape).collect();
        let state: Vec<&[usize]> = inputs[..made.len()].iter().map(Tensor::shape).collect();
        assert_eq!(shapes, state, "{}", engine.name());
        // Weights, steps, two moments of each, losses; images and rates are fed.
        assert_eq!((made.len(), inputs.len()), (7, 9));
    }
}

#[test]
fn a_dry_run_trains_nothing_writes_nothing_and_says_what_a_step_takes() {
    let folder = tempfile::tempdir().unwrap();
    let model = "quantize {fixtures}/digits_resnet8.onnx --bits 4 --recipe lsq --dry-run";
    let flags = "--steps 12 --batch 8 --run-folder run --save-graphs graphs";
    let table = run(folder.path(), &format!("{model} {flags}"));
    assert_eq!((table.code, &table.left), (Some(0), &Vec::new()), "{}", table.stderr);
    let told = table.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    for text in ["12 steps of 8 out of 896 inputs", "MB per step; not run"] {
        assert!(told.contains(text), "{told}");
    }
    let of = |flags: &str| run(folder.path(), &format!("{model} {flags} --format json")).json();
    let report = of(flags);
    let descent = |report: &Value| report["training"][0]["descents"][0].clone();
    assert_eq!((&descent(&report)["steps"], &descent(&report)["batch"]), (&0.into(), &8.into()));
    // Twice the samples take nearly twice the memory.
    let bytes = |report: &Value| descent(report)["step_bytes"].as_u64().unwrap();
    let twice = of("--batch 16");
    assert!(bytes(&twice) > bytes(&report) * 3 / 2 && bytes(&twice) <= bytes(&report) * 2, "{report} {twice}");
}
