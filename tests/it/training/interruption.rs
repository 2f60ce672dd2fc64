//! Runs that are asked to stop: they end with exit code 130, and go on from where they were.

use std::time::{Duration, Instant};

use dfq_onnx::observe::{Observer, Progress};
use dfq_onnx::runtime::{Engine, TractEngine};
use dfq_onnx::train::{Checkpoints, Played, Schedule, descend};

use super::bowl;
use crate::support::ort;

const STEPS: u64 = 22;
/// How often losses are read.
const READS: u64 = STEPS.div_ceil(bowl::READ);

/// Asks for a stop once losses were read so often.
struct After(u64);

impl Observer for After {
    fn stage(&mut self, _: &str) {}

    fn progress(&mut self, progress: &Progress) {
        let is_read = progress.done.is_multiple_of(bowl::READ) || progress.done == progress.steps;
        self.0 = self.0.saturating_sub(u64::from(is_read));
    }

    fn note(&mut self, _: &str) {}

    fn is_interrupted(&self) -> bool {
        self.0 == 0
    }
}

/// Descends at a rate that is halved twice (see `divergence`), up to a stop.
fn descent(engine: &dyn Engine, checkpoints: Option<Checkpoints>, stop: u64) -> dfq_onnx::Result<Played> {
    let schedule = Schedule::Cosine { steps: STEPS, floor: 0.0, warmup: 0 };
    let course = bowl::course(STEPS, 6.0 / 2.2, schedule, checkpoints);
    let step = bowl::step(engine, [10.01, 9.99]);
    descend(&step, engine, course, &mut |_| Ok(bowl::feed(11.0)), &mut After(stop))
}

#[test]
fn a_descent_that_was_asked_to_stop_anywhere_goes_on_as_one_that_was_not() {
    let mut failed = Vec::new();
    for engine in [ort() as &dyn Engine, &TractEngine] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bowl.safetensors");
        // Written as rarely as can be: a stop writes one whether it is due or not.
        let with = |resume| Some(Checkpoints { interval: Duration::MAX, ..bowl::checkpoints(folder.path(), resume) });
        let whole = descent(engine, with(false), u64::MAX).unwrap();
        assert!(!whole.rollbacks.is_empty(), "{:?}", whole.histories[0].loss());
        let file = std::fs::read(&path).unwrap();
        for stop in 1..READS {
            let error = descent(engine, with(false), stop).unwrap_err();
            let told = error.to_string().contains(&format!("--resume {}", folder.path().display()));
            if error.exit_code() != 130 || !told {
                failed.push(format!("{}, stopped after {stop}: {error}", engine.name()));
            }
            let found = descent(engine, with(true), u64::MAX).unwrap();
            let resumed = found.resumed;
            if resumed != stop * bowl::READ
                || found != (Played { resumed, ..whole.clone() })
                || std::fs::read(&path).unwrap() != file
            {
                failed.push(format!("{}, stopped after {stop}: resumed at {resumed}, {found:?}", engine.name()));
            }
        }
        let lost = descent(engine, None, READS - 1).unwrap_err();
        assert!(lost.exit_code() == 130 && lost.to_string().contains("without --run-folder"), "{lost}");
        // The last step is made: nothing is left to stop.
        assert_eq!(descent(engine, None, READS).unwrap(), whole);
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn a_descent_whose_time_is_up_keeps_every_step_and_stays_as_it_is() {
    let step = bowl::step(&TractEngine, [10.01, 9.99]);
    for (what, milliseconds) in [("at once", 0), ("in the middle of a window", 2000)] {
        let folder = tempfile::tempdir().unwrap();
        let descent = |until, resume| {
            let checkpoints = Some(bowl::checkpoints(folder.path(), resume));
            let mut course = bowl::course(1_000_000_000, 0.01, Schedule::Constant, checkpoints);
            course.play.until = until;
            descend(&step, &TractEngine, course, &mut |_| Ok(bowl::feed(11.0)), &mut After(u64::MAX))
        };
        let ended = descent(Some(Instant::now() + Duration::from_millis(milliseconds)), false).unwrap();
        assert_eq!(ended.steps() > 0, milliseconds > 0, "{what}");
        // Without a limit it would take hours.
        let resumed = ended.steps();
        assert_eq!(descent(None, true).unwrap(), Played { resumed, ..ended }, "{what}");
    }
}

/// Remembers the steps that it hears of, and how many losses.
struct Heard(Vec<(u64, usize)>);

impl Observer for Heard {
    fn stage(&mut self, _: &str) {}

    fn progress(&mut self, progress: &Progress) {
        self.0.push((progress.done, progress.losses.len()));
    }

    fn note(&mut self, _: &str) {}
}

#[test]
fn every_step_is_heard_of_and_losses_once_they_were_read() {
    let (step, schedule) = (bowl::step(ort(), [0.0, 0.0]), Schedule::Constant);
    let mut heard = Heard(Vec::new());
    let course = bowl::course(6, 0.1, schedule, None);
    descend(&step, ort(), course, &mut |_| Ok(bowl::feed(11.0)), &mut heard).unwrap();
    assert_eq!(heard.0, [(1, 0), (2, 0), (3, 0), (4, 3), (5, 3), (6, 3)]);
}
