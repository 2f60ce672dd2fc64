//! Games of several phases: whose numbers are known, and those of recipes that train a generator beside the student.

use std::path::Path;

use dfq_onnx::Error;
use dfq_onnx::expr::STANDARD;
use dfq_onnx::ir::{DType, Graph, Tensor};
use dfq_onnx::observe::Silent;
use dfq_onnx::onnx;
use dfq_onnx::runtime::{Engine, TractEngine};
use dfq_onnx::train::{
    BuiltPhase, Feed, Game, Learner, LearningRate, Move, Optimiser, PhaseSpec, PlayOptions, Played, TrainedVector,
    Turn, play,
};
use serde_json::Value;

use super::bowl;
use crate::support::build::Build;
use crate::support::net::{layer, pads};
use crate::support::ort;
use crate::support::program::{files, interrupted, run};

const SGD: Optimiser = Optimiser::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 };

/// A single number that is trained.
struct Number(&'static str, TrainedVector);

impl Number {
    fn new(name: &'static str, start: f32) -> Self {
        let mut vector = TrainedVector::default();
        vector.add(name, &[1], &[start], &[1.0]).unwrap();
        Self(name, vector)
    }
}

impl Learner for Number {
    fn vectors(&self) -> Vec<(String, &TrainedVector)> {
        vec![(self.0.to_owned(), &self.1)]
    }
}

/// Returns the phases of a chase: the first moves `target` halfway to what is fed, the second moves `follower` a tenth of
/// the way to `target`, and remembers the mean of targets, half of which is the newest.
fn chase() -> Vec<BuiltPhase> {
    let (target, follower) = (Number::new("target", 0.0), Number::new("follower", 8.0));
    let move_target = PhaseSpec::new("target", |scope| {
        let feed = Feed { name: "x".to_owned(), dtype: DType::F32, shape: vec![1] };
        let x = scope.feeds(&[feed], |_, number| Ok(vec![Tensor::from_f32(&[1], &[number as f32])]))[0];
        let loss = (scope.vector("target", &target.1) - x).square().sum(&[], false);
        scope.descend(&target, loss, SGD, LearningRate::constant(0.25));
        Ok(())
    });
    let follow = PhaseSpec::new("follower", |scope| {
        let goal = scope.vector("target", &target.1);
        let mean = scope.buffer("mean", Tensor::from_f32(&[1], &[0.0]));
        scope.set(mean, mean * 0.5 + goal * 0.5);
        let loss = (scope.vector("follower", &follower.1) - goal.stop_gradient()).square().sum(&[], false);
        scope.term("mean", mean.sum(&[], false));
        scope.descend(&follower, loss, SGD, LearningRate::constant(0.05));
        Ok(())
    });
    [move_target, follow].iter().map(|phase| phase.built(1, &STANDARD).unwrap()).collect()
}

const TURNS: [Turn; 2] = [Turn { phase: 0, warm_up: 3, steps: 1 }, Turn { phase: 1, warm_up: 0, steps: 2 }];
const ROUNDS: u64 = 12;

fn played(engine: &dyn Engine, folder: &Path, stop: Option<u64>) -> dfq_onnx::Result<Played> {
    let mut built = chase();
    let game = Game::new(built.iter().map(|built| built.phase.clone()).collect(), TURNS.to_vec(), ROUNDS)?;
    let checkpoints = Some(bowl::checkpoints(folder, true));
    let options = PlayOptions { stage: "chase".to_owned(), checkpoints, until: None };
    let mut made = 0;
    let mut feed = |Move { phase, number }| {
        made += 1;
        if stop.is_some_and(|stop| made > stop) {
            return Err(Error::Resources("stopped".to_owned()));
        }
        built[phase].feeds(7, 1, number)
    };
    play(&game, engine, &options, &mut feed, &mut Silent)
}

#[test]
fn phases_update_one_state_each_by_its_own_loss_optimizer_and_count_of_steps() {
    let [mut target, mut follower, mut mean, mut fed] = [0.0f32, 8.0, 0.0, 0.0];
    let mut losses = [Vec::new(), Vec::new()];
    for round in 0..3 + ROUNDS {
        losses[0].push((target - fed).powi(2));
        target -= 0.5 * (target - fed);
        fed += 1.0;
        // Three rounds are the warm-up.
        for _ in 0..if round < 3 { 0 } else { 2 } {
            losses[1].push((follower - target).powi(2));
            follower -= 0.1 * (follower - target);
            mean = 0.5 * mean + 0.5 * target;
        }
    }
    let near = |found: f32, expected: f32| (found - expected).abs() <= 1e-4 * expected.abs().max(1.0);
    for engine in [ort() as &dyn Engine, &TractEngine] {
        let folder = tempfile::tempdir().unwrap();
        let found = played(engine, folder.path(), None).unwrap();
        for (name, expected) in [("target", target), ("follower", follower), ("mean", mean)] {
            let value = found.tensor(name).unwrap().to_f32().unwrap()[0];
            assert!(near(value, expected), "{name} in {}: {value} for {expected}", engine.name());
        }
        assert_eq!(found.steps(), 3 + 3 * ROUNDS);
        for (history, expected) in found.histories.iter().zip(&losses) {
            let close = history.loss().len() == expected.len()
                && history.loss().iter().zip(expected).all(|(&found, &expected)| near(found, expected));
            assert!(close, "{}: {:?} for {expected:?}", engine.name(), history.loss());
        }
    }
}

#[test]
fn a_game_that_was_stopped_anywhere_ends_as_one_that_was_not() {
    let mut failed = Vec::new();
    for engine in [ort() as &dyn Engine, &TractEngine] {
        let folder = tempfile::tempdir().unwrap();
        let whole = played(engine, folder.path(), None).unwrap();
        let file = std::fs::read(folder.path().join("bowl.safetensors")).unwrap();
        for stop in [1, 2, 3, 4, 20, 21, 30, 38] {
            let folder = tempfile::tempdir().unwrap();
            played(engine, folder.path(), Some(stop)).unwrap_err();
            let found = played(engine, folder.path(), None).unwrap();
            let resumed = found.resumed;
            if found != (Played { resumed, ..whole.clone() }) {
                failed.push(format!("{}, stopped at {stop}: resumed at {resumed}", engine.name()));
            }
            if std::fs::read(folder.path().join("bowl.safetensors")).unwrap() != file {
                failed.push(format!("{}, stopped at {stop}: another last checkpoint", engine.name()));
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn phases_that_begin_an_entry_differently_are_refused() {
    let phase = |start: f32| {
        let number = Number::new("w", start);
        let spec = PhaseSpec::new(if start > 0.0 { "first" } else { "second" }, |scope| {
            let loss = scope.vector("w", &number.1).square().sum(&[], false);
            scope.descend(&number, loss, SGD, LearningRate::constant(0.1));
            Ok(())
        });
        spec.built(1, &STANDARD).unwrap().phase
    };
    let error = Game::new(vec![phase(1.0), phase(0.0)], vec![Turn::of(0, 1), Turn::of(1, 1)], 1).unwrap_err();
    assert!(error.to_string().contains("entry \"w\" of the state: begins with different values"), "{error}");
    let nothing = PhaseSpec::new("idle", |_| Ok(())).built(1, &STANDARD).map(|_| ());
    assert!(nothing.unwrap_err().to_string().contains("nothing is trained in the phase \"idle\""));
}

/// Recipe, further flags, phases with their terms, and steps in all.
type Case = (&'static str, &'static str, &'static [(&'static str, &'static [&'static str])], u64);

const CASES: [Case; 3] = [
    ("gdfq", "", &[("generator", &["statistics"]), ("student", &["distillation"])], 4 + 40 + 40),
    ("choi2020", "", &[("warm-up", &[]), ("generators", &[]), ("students", &[])], 2 + 4 + 40),
    (
        "choi2020",
        "--generators 2 --students 2",
        &[("warm-up", &[]), ("generators", &[]), ("students", &[])],
        2 + 4 + 40,
    ),
];

const RUN: &str = "quantize {fixtures}/digits_resnet8.onnx --precision w3a4 --all-layers --batch 16 --steps 40 --samples 8 \
                   --keep-trained -o out.onnx";

#[test]
fn recipes_with_a_generator_train_and_are_judged_and_resumed_to_the_same_bytes() {
    let mut failed = Vec::new();
    for (recipe, flags, phases, steps) in CASES {
        let what = format!("{recipe} {flags}");
        let command = format!("{RUN} --recipe {recipe} {flags}");
        let folder = tempfile::tempdir().unwrap();
        let ran = run(folder.path(), &format!("{command} --format json --save-graphs graphs"));
        if ran.code != Some(0) && ran.code != Some(4) {
            failed.push(format!("{what}: {:?} {}", ran.code, ran.stderr));
            continue;
        }
        let stage = &ran.json()["training"][0];
        let descent = &stage["descents"][0];
        let names: Vec<String> = descent["losses"].as_array().unwrap().iter().map(|pair| pair[0].to_string()).collect();
        let expected = phases.iter().flat_map(|(phase, terms)| {
            std::iter::once(&"loss").chain(*terms).map(move |term| format!("\"{phase} {term}\""))
        });
        if !names.iter().eq(expected.collect::<Vec<_>>().iter()) || descent["steps"] != steps {
            failed.push(format!("{what}: {names:?}, {} steps", descent["steps"]));
        }
        // What is trained for so few steps is no better, and kept all the same.
        let is_trained = |range: &Value| range["source"] == "trained";
        let ranges = ran.json()["ranges"].as_array().is_some_and(|ranges| ranges.iter().all(is_trained));
        let is_kept = stage["held_out"]["is_kept"] == true && ranges;
        if !is_kept || stage["held_out"]["distance"][0].as_f64().is_none_or(|distance| distance <= 0.0) {
            failed.push(format!("{what}: {}", stage["held_out"]));
        }
        let apart = &descent["disagreement"];
        let (share, distance) = (apart["top1"].as_f64().unwrap_or(-1.0), apart["distance"].as_f64().unwrap_or(-1.0));
        let is_measured = (0.0..=1.0).contains(&share) && distance > 0.0 && distance < 2.0 && apart["students"] == 2;
        if is_measured != flags.contains("--students 2") || is_measured == apart.is_null() {
            failed.push(format!("{what}: {apart}"));
        }
        for (phase, _) in phases {
            let graph = format!("{recipe}.{phase}.step.onnx");
            if !files(&folder.path().join("graphs")).iter().any(|path| path.ends_with(&graph)) {
                failed.push(format!("{what}: no {graph}"));
            }
        }
        let bytes = std::fs::read(folder.path().join("out.onnx")).unwrap();
        let again = tempfile::tempdir().unwrap();
        let checkpoint = again.path().join(format!("run/{recipe}.safetensors"));
        let ended = interrupted(again.path(), &format!("{command} --run-folder run"), || checkpoint.exists());
        let resumed = run(again.path(), &format!("{command} --resume run --format json"));
        let place = |report: &Value| report["training"][0]["descents"][0]["resumed_at"].as_u64();
        if ended.status.code() == Some(130) && place(&resumed.json()).is_none_or(|step| step == 0) {
            failed.push(format!("{what}: not resumed, {}", resumed.stderr));
        }
        if std::fs::read(again.path().join("out.onnx")).unwrap() != bytes {
            failed.push(format!("{what}: other bytes after it was stopped"));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

/// Returns a convolution of one image, or of the sum of two.
fn convolution(has_two_inputs: bool) -> Graph {
    let mut g = Build::at(17);
    g.fed("x", DType::F32, "N, 3, 16, 16");
    if has_two_inputs {
        g.fed("z", DType::F32, "N, 3, 16, 16");
        g.node("Add", "x z", "sum", []);
    }
    layer(&mut g, "Conv", if has_two_inputs { "sum" } else { "x" }, "c", &[4, 3, 3, 3], 4, pads(1));
    g.node("Relu", "c", "r", []);
    layer(&mut g, "Conv", "r", "y", &[4, 4, 3, 3], 4, pads(1));
    g.outputs("y")
}

#[test]
fn networks_that_no_generator_can_serve_are_refused_by_what_they_lack() {
    let cases = [
        ("neither statistics nor classes", false, "gdfq", "has nothing to synthesize inputs from"),
        ("neither, for images of no class", false, "choi2020", "has nothing to synthesize inputs from"),
        ("two inputs", true, "choi2020", "has several inputs, and a generator makes only one of them"),
    ];
    let mut failed = Vec::new();
    for (name, has_two_inputs, recipe, expected) in cases {
        let folder = tempfile::tempdir().unwrap();
        onnx::save(&convolution(has_two_inputs), &folder.path().join("model.onnx"), usize::MAX).unwrap();
        let ran =
            run(folder.path(), &format!("quantize model.onnx --recipe {recipe} --steps 2 --samples 2 -o out.onnx"));
        if ran.code != Some(3) || !ran.stderr.contains(expected) || folder.path().join("out.onnx").exists() {
            failed.push(format!("{name}: exit {:?}: {}", ran.code, ran.stderr));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
