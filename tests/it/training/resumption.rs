//! Descents that are stopped and taken up again.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use dfq_onnx::Error;
use dfq_onnx::ir::Tensor;
use dfq_onnx::observe::Silent;
use dfq_onnx::plan::Policy;
use dfq_onnx::runtime::{Engine, TractEngine};
use dfq_onnx::train::{
    Checkpoint, Checkpoints, Distillation, FitOptions, Identity, LearningRate, PlayOptions, Played, Schedule, Student,
    TrainingStep, descend,
};

use super::models;
use crate::support::quantized::quantized;
use crate::support::{ort, random_inputs};

/// Steps in all; losses are read after every third.
const STEPS: u64 = 11;
const READ: u64 = 3;
const BATCH: usize = 2;

fn training_step(engine: &dyn Engine) -> (TrainingStep, Vec<Vec<Tensor>>) {
    let graph = models::grid_preserving();
    let policy = Policy { weight_bits: 4, activation_bits: 4, ..Policy::default() };
    let made = quantized(&graph, &policy).unwrap();
    let student = Student::new(&made.float, &made.plan, &made.solution).unwrap();
    let mut distillation = Distillation::new(&made.float, student).unwrap();
    distillation.losses = usize::try_from(READ).unwrap();
    let batches = (0..STEPS).map(|step| random_inputs(&made.float, BATCH, 40 + step)).collect();
    (distillation.step(BATCH, &engine.lowering()).unwrap(), batches)
}

/// A schedule that depends on the losses so far, so that it has to be kept as well.
fn course(checkpoints: Option<Checkpoints>, rate: f64) -> FitOptions {
    let schedule = Schedule::Plateau { factor: 0.5, patience: 0, threshold: 0.5, minimum: 0.0 };
    let play = PlayOptions { stage: "lsq".to_owned(), checkpoints, until: None };
    FitOptions { steps: STEPS, rate: LearningRate::new(rate, schedule), play }
}

fn checkpoints(folder: &Path, resume: bool) -> Checkpoints {
    let text = |text: &str| text.to_owned();
    let run = Identity { stage: text("lsq"), seed: 1, model: text("model"), settings: text("settings") };
    Checkpoints { path: folder.join("lsq.safetensors"), run, resume, interval: Duration::ZERO }
}

/// Descends by what is fed until `stop`, where feeding fails.
fn run(
    (step, batches): &(TrainingStep, Vec<Vec<Tensor>>),
    engine: &dyn Engine,
    course: FitOptions,
    stop: Option<u64>,
) -> dfq_onnx::Result<Played> {
    let mut feed = |number: u64| match stop {
        Some(stop) if number >= stop => Err(Error::Resources(format!("stopped before step {number}"))),
        _ => Ok(batches[usize::try_from(number).unwrap()].clone()),
    };
    descend(step, engine, course, &mut feed, &mut Silent)
}

#[test]
fn a_descent_that_was_stopped_anywhere_ends_as_one_that_was_not() {
    let mut failed = Vec::new();
    for engine in [ort() as &dyn Engine, &TractEngine] {
        let made = training_step(engine);
        let folder = tempfile::tempdir().unwrap();
        let whole = run(&made, engine, course(Some(checkpoints(folder.path(), false)), 0.01), None).unwrap();
        let file = std::fs::read(folder.path().join("lsq.safetensors")).unwrap();
        let moved = whole.state[0] != made.0.state[0] && whole.state.iter().any(|(_, t)| t.to_f32().unwrap().len() > 3);
        assert!(moved && whole.steps() == 11 && whole.resumed == 0, "{:?}", whole.histories);
        for stops in [&[0][..], &[1], &[3], &[4], &[8], &[10], &[2, 5, 9], &[STEPS]] {
            let name = format!("{}, stopped before {stops:?}", engine.name());
            let folder = tempfile::tempdir().unwrap();
            for &stop in stops {
                let stopped = run(&made, engine, course(Some(checkpoints(folder.path(), true)), 0.01), Some(stop));
                if stopped.is_ok() != (stop == STEPS) {
                    failed.push(format!("{name}: {stopped:?}"));
                }
            }
            let last = *stops.last().unwrap();
            let resumed = if last == STEPS { STEPS } else { last - last % READ };
            let again = course(Some(checkpoints(folder.path(), true)), 0.01);
            match run(&made, engine, again, (last == STEPS).then_some(0)) {
                Ok(found) if found == (Played { resumed, ..whole.clone() }) => {}
                Ok(found) => failed.push(format!("{name}: resumed at {}, {:?}", found.resumed, found.histories)),
                Err(e) => failed.push(format!("{name}: {e}")),
            }
            if std::fs::read(folder.path().join("lsq.safetensors")).unwrap() != file {
                failed.push(format!("{name}: another last checkpoint"));
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn without_leave_to_resume_a_descent_begins_anew() {
    let (made, folder) = (training_step(ort()), tempfile::tempdir().unwrap());
    let with = |resume| Some(checkpoints(folder.path(), resume));
    run(&made, ort(), course(with(false), 0.01), Some(7)).unwrap_err();
    let anew = run(&made, ort(), course(with(false), 0.01), None).unwrap();
    assert_eq!((anew.resumed, anew.steps()), (0, 11));
}

#[test]
fn a_loss_that_is_no_number_ends_the_descent_and_is_never_kept() {
    let folder = tempfile::tempdir().unwrap();
    for engine in [ort() as &dyn Engine, &TractEngine] {
        let made = training_step(engine);
        let ended = run(&made, engine, course(Some(checkpoints(folder.path(), false)), 1e30), None);
        let error = ended.unwrap_err();
        assert!(error.to_string().contains("lower the learning rate"), "{error}");
        assert_eq!(error.exit_code(), 3);
        let path = folder.path().join("lsq.safetensors");
        assert!(!path.exists(), "{:?}", Checkpoint::read(&path).unwrap().tensors["history"].to_f32());
    }
}

#[test]
fn a_checkpoint_that_does_not_fit_the_step_is_refused() {
    let (made, folder) = (training_step(ort()), tempfile::tempdir().unwrap());
    let with = |resume| checkpoints(folder.path(), resume);
    run(&made, ort(), course(Some(with(false)), 0.01), Some(7)).unwrap_err();
    let good = Checkpoint::read(&with(true).path).unwrap();
    let without = |name: &str| {
        let mut tensors = good.tensors.clone();
        tensors.remove(name).unwrap();
        Checkpoint { tensors, about: good.about.clone() }
    };
    let mut shorter = good.clone();
    shorter.tensors.insert("weights".to_owned(), Tensor::from_f32(&[2], &[0.0, 1.0]));
    let mut silent = good.clone();
    silent.about.notes = BTreeMap::new();
    let mut other = good.clone();
    other.about.run.seed = 2;
    let cases = [
        ("no weights", without("weights"), "holds no \"weights\"", 3),
        ("no moments", without("scales.moment2"), "holds no \"scales.moment2\"", 3),
        ("no losses", without("history"), "holds no \"history\"", 3),
        ("no schedule", silent, "holds no \"schedules\"", 3),
        ("another length", shorter, "\"weights\"", 3),
        ("another run", other, "its seed is 2, expected 1", 2),
    ];
    let mut failed = Vec::new();
    for (name, checkpoint, text, code) in cases {
        checkpoint.write(&with(true).path).unwrap();
        match run(&made, ort(), course(Some(with(true)), 0.01), None) {
            Err(e) if e.to_string().contains(text) && e.exit_code() == code => {}
            other => failed.push(format!("{name}: {other:?}")),
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
