//! Training that diverges goes back to the last sound step at half the learning rate, three times at most.

use std::cell::Cell;

use dfq_onnx::Error;
use dfq_onnx::observe::{Observer, Progress, Silent};
use dfq_onnx::runtime::{Engine, TractEngine};
use dfq_onnx::train::{Checkpoint, Checkpoints, FitOptions, Optimiser, Played, Rollback, Schedule, descend};

use super::bowl;
use crate::support::ort;

const STEPS: u64 = 22;

/// So near to the bottom that the first losses are its own.
const START: [f32; 2] = [10.01, 9.99];
/// A step multiplies the distance from the bottom by 5, at half of it by 2, at a quarter by a half.
const TOO_HIGH: f64 = 6.0 / 2.2;

/// Keeps notes.
#[derive(Default)]
struct Ear(Vec<String>);

impl Observer for Ear {
    fn stage(&mut self, _: &str) {}

    fn progress(&mut self, _: &Progress) {}

    fn note(&mut self, text: &str) {
        self.0.push(text.to_owned());
    }
}

/// A schedule that depends on the losses so far, so that it has to be kept as well.
fn course(rate: f64, checkpoints: Option<Checkpoints>) -> FitOptions {
    let schedule = Schedule::Plateau { factor: 0.9, patience: 0, threshold: 0.5, minimum: 0.0 };
    bowl::course(STEPS, rate, schedule, checkpoints)
}

/// Descends until `stop` steps were made, however often each.
fn run(
    engine: &dyn Engine,
    course: FitOptions,
    stop: Option<u64>,
    observer: &mut dyn Observer,
) -> dfq_onnx::Result<Played> {
    let made = Cell::new(0);
    let mut feed = |_| {
        if stop == Some(made.replace(made.get() + 1)) {
            return Err(Error::Resources("stopped".to_owned()));
        }
        Ok(bowl::feed(11.0))
    };
    descend(&bowl::step(engine, START), engine, course, &mut feed, observer)
}

#[test]
fn a_rate_that_is_too_high_is_halved_until_it_is_not() {
    for engine in [ort() as &dyn Engine, &TractEngine] {
        let (folder, mut ear) = (tempfile::tempdir().unwrap(), Ear::default());
        let checkpoints = bowl::checkpoints(folder.path(), false);
        let path = checkpoints.path.clone();
        let made = run(engine, course(TOO_HIGH, Some(checkpoints)), None, &mut ear).unwrap();
        let Played { state, histories, rollbacks, .. } = &made;
        let history = &histories[0];
        let steps: Vec<(u64, u64)> = rollbacks.iter().map(|r| (r.at, r.to)).collect();
        assert_eq!(steps, [(8, 4), (8, 4)], "{:?}", history.loss());
        assert!(rollbacks.iter().all(|r| r.reason.contains("the loss rose to")), "{rollbacks:?}");
        assert_eq!(history.steps(), 22);
        assert!(state[0].1.to_f32().unwrap().iter().all(|w| w.is_finite()));
        assert!(ear.0.len() == 2 && ear.0[0].contains("back to step 4, at half the learning rate"), "{:?}", ear.0);
        let kept = Checkpoint::read(&path).unwrap().about;
        assert_eq!(serde_json::from_str::<Vec<Rollback>>(&kept.notes["rollbacks"]).unwrap(), *rollbacks);
    }
}

#[test]
fn a_descent_that_diverged_and_was_stopped_anywhere_ends_as_one_that_was_not_stopped() {
    let mut failed = Vec::new();
    for engine in [ort() as &dyn Engine, &TractEngine] {
        let with = |folder: &tempfile::TempDir| Some(bowl::checkpoints(folder.path(), true));
        let (folder, mut silent) = (tempfile::tempdir().unwrap(), Silent);
        let whole = run(engine, course(TOO_HIGH, with(&folder)), None, &mut silent).unwrap();
        let file = std::fs::read(folder.path().join("bowl.safetensors")).unwrap();
        // Eight steps more than a descent without divergence makes.
        for stop in 0..STEPS + 8 {
            let folder = tempfile::tempdir().unwrap();
            run(engine, course(TOO_HIGH, with(&folder)), Some(stop), &mut silent).unwrap_err();
            let found = run(engine, course(TOO_HIGH, with(&folder)), None, &mut silent).unwrap();
            let resumed = found.resumed;
            if found != (Played { resumed, ..whole.clone() }) {
                failed.push(format!(
                    "{}, stopped at {stop}: resumed at {resumed}, {:?}",
                    engine.name(),
                    found.rollbacks
                ));
            }
            if std::fs::read(folder.path().join("bowl.safetensors")).unwrap() != file {
                failed.push(format!("{}, stopped at {stop}: another last checkpoint", engine.name()));
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

/// What is trained leaves what numbers can hold in a step whose own loss is sound.
#[test]
fn a_state_that_is_not_finite_is_known_by_the_losses_alone() {
    for engine in [ort() as &dyn Engine, &TractEngine] {
        let mut ear = Ear::default();
        // The square of the gradient in the fourth step, the last of a window, is beyond float32; its loss is not.
        let made = Cell::new(0);
        let mut feed = |_| {
            made.set(made.get() + 1);
            Ok(bowl::feed(if made.get() == 4 { 1e19 } else { 11.0 }))
        };
        let course = bowl::course(8, 0.1, Schedule::Constant, None);
        let step = bowl::step_by(engine, START, Optimiser::ADAM);
        let ended = descend(&step, engine, course, &mut feed, &mut ear).unwrap();
        assert_eq!(ended.rollbacks.iter().map(|r| (r.at, r.to)).collect::<Vec<_>>(), [(4, 0)], "{}", engine.name());
        assert!(ended.rollbacks[0].reason.contains("the loss or a trained value became"), "{:?}", ended.rollbacks);
        assert!(ended.state.iter().all(|(_, t)| t.to_f32().unwrap().iter().all(|v| v.is_finite())));
    }
}

#[test]
fn a_rate_that_is_too_high_at_an_eighth_of_it_ends_the_descent_with_a_sound_checkpoint() {
    for engine in [ort() as &dyn Engine, &TractEngine] {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = bowl::checkpoints(folder.path(), false);
        let path = checkpoints.path.clone();
        let error = run(engine, course(8.0 * TOO_HIGH, Some(checkpoints)), None, &mut Silent).unwrap_err();
        assert_eq!(error.exit_code(), 3);
        for words in ["the loss rose to", "after 3 rollbacks", "lower the learning rate"] {
            assert!(error.to_string().contains(words), "{error}");
        }
        let kept = Checkpoint::read(&path).unwrap();
        assert_eq!((kept.about.steps, kept.tensors["history"].shape()), (4, &[4, 3][..]));
        assert!(kept.tensors.values().all(|tensor| tensor.to_f32().unwrap().iter().all(|v| v.is_finite())));
    }
}
