//! The training loop: learning rates, losses, checkpoints, and rollback when the loss diverges.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{About, Checkpoint, History, Identity, LearningRate, TrainingStep};
use crate::error::{Error, Result};
use crate::ir::Tensor;
use crate::observe::{Observer, Progress};
use crate::runtime::{Engine, SessionOptions, StepSession};

/// The name of the loss history in a checkpoint.
const HISTORY: &str = "history";
/// The name of a schedule's state in a checkpoint.
const SCHEDULE: &str = "schedule";
/// The name of the rollbacks in a checkpoint.
const ROLLBACKS: &str = "rollbacks";
/// The name of the note that marks a descent stopped by its deadline; when resumed, it ends there too.
const TIME_IS_UP: &str = "time is up";

/// A loss that exceeds its largest value so far by this factor does not recover by itself: noise between windows of
/// steps stays below 3, and an adversary's loss rises by less.
const EXPLOSION: f32 = 10.0;
/// Losses below this are rounding noise, and their growth is not meaningful.
const ROUNDING: f32 = 1e-5;
/// The number of rollbacks before a descent fails.
const MOST_ROLLBACKS: usize = 3;
/// The factor on the learning rate at each rollback.
const SLOWER: f64 = 0.5;

/// The length and learning rates of a descent.
#[derive(Clone, Debug)]
pub struct FitOptions {
    /// Total number of steps.
    pub steps: u64,
    /// The learning-rate schedule.
    pub rate: LearningRate,
    /// Where checkpoints are written, if anywhere.
    pub checkpoints: Option<Checkpoints>,
    /// The deadline at which it ends early.
    pub until: Option<Instant>,
}

/// The checkpoint file of a descent.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    /// The path of the file.
    pub path: PathBuf,
    /// The run that it belongs to.
    pub run: Identity,
    /// Whether to resume from the file; without one, training starts from the beginning.
    pub resume: bool,
    /// The least time between two checkpoints. The first is written as soon as losses are read, so that an unwritable
    /// folder is reported early.
    pub interval: Duration,
}

impl Checkpoints {
    /// Returns the checkpoint to resume from.
    ///
    /// # Errors
    /// When it is damaged or belongs to another run.
    pub fn found(&self) -> Result<Option<Checkpoint>> {
        if !self.resume || !self.path.exists() {
            return Ok(None);
        }
        let found = Checkpoint::read(&self.path)?;
        found.check(&self.path, &self.run)?;
        Ok(Some(found))
    }
}

/// A rollback after the loss diverged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rollback {
    /// Steps done when divergence was detected.
    pub at: u64,
    /// Steps done in the state it returned to.
    pub to: u64,
    /// What diverged.
    pub reason: String,
}

/// The result of a descent.
#[derive(Clone, Debug, PartialEq)]
pub struct Descent {
    /// The state after the last step, in the order of [`TrainingStep::state`].
    pub state: Vec<Tensor>,
    /// The losses of every step.
    pub history: History,
    /// The step it was resumed at.
    pub resumed: u64,
    /// The rollbacks.
    pub rollbacks: Vec<Rollback>,
}

/// Runs all steps of `course` on `engine`. `feed` returns the feeds of a step before the learning rates; `observer`
/// receives the completed steps of `stage` and the latest losses.
///
/// Whenever the losses are read and are valid, the engine keeps a snapshot of the state on its device; when the loss
/// diverges, the descent rolls back to it and continues at half the learning rate. Snapshots are copied to the host
/// only for a checkpoint and at the end. At the deadline, the losses since the last reading are read once more.
///
/// # Errors
/// When the engine fails; a checkpoint that is damaged or belongs to another run; [`Error::Diverged`] when the loss
/// diverges repeatedly; [`Error::Interrupted`] when the observer requests it, once the checkpoint is written.
pub fn descend(
    (step, engine): (&TrainingStep, &dyn Engine),
    (stage, course): (&str, FitOptions),
    feed: &mut dyn FnMut(u64) -> Result<Vec<Tensor>>,
    observer: &mut dyn Observer,
) -> Result<Descent> {
    let FitOptions { steps, rate, checkpoints, until } = course;
    let (mut kept, start) = match checkpoints.as_ref().map(Checkpoints::found).transpose()?.flatten() {
        Some(found) => Snapshot::restored(step, rate, found)?,
        None => (Snapshot::at_start(step, rate), step.state.iter().map(|(_, start)| start.clone()).collect()),
    };
    let resumed = kept.done();
    let options = SessionOptions { prepacking: true, ..SessionOptions::default() };
    let mut session = engine.load_steps(&step.graph, &start, &options)?;
    drop(start);
    let is_up = || until.is_some_and(|until| Instant::now() >= until);
    let (mut done, mut written) = (kept.done(), None::<Instant>);
    kept.is_up |= is_up();
    while kept.done() < steps && !kept.is_up {
        let mut feeds = feed(done)?;
        feeds.push(step.optimiser.rates(kept.rate_at(done), done));
        session.step(&feeds)?;
        done += 1;
        if observer.is_interrupted() {
            session.go_back()?;
            return Err(interrupted(stage, &kept, (step, session.as_ref()), checkpoints.as_ref())?);
        }
        kept.is_up = is_up();
        if !done.is_multiple_of(step.losses as u64) && done < steps && !kept.is_up {
            observer.progress(&Progress { stage, done, steps, losses: &kept.history.last() });
            continue;
        }
        let found = Reading::of(step, session.as_ref(), done - kept.done())?;
        if let Some(reason) = kept.divergence(&found) {
            observer.note(&kept.go_back((stage, done), reason)?);
            session.go_back()?;
            done = kept.done();
            continue;
        }
        kept.keep(&found);
        session.keep()?;
        observer.progress(&Progress { stage, done, steps, losses: &kept.history.last() });
        let is_due = |c: &&Checkpoints| written.is_none_or(|last| last.elapsed() >= c.interval) || done == steps;
        if let Some(checkpoints) = checkpoints.as_ref().filter(is_due) {
            kept.write((step, session.as_ref()), checkpoints)?;
            written = Some(Instant::now());
        }
    }
    if let Some(checkpoints) = checkpoints.as_ref().filter(|_| kept.is_up) {
        kept.write((step, session.as_ref()), checkpoints)?;
    }
    let state = state_of(step, session.as_ref())?;
    let Snapshot { history, rollbacks, .. } = kept;
    Ok(Descent { state, history, resumed, rollbacks })
}

/// Returns a copy of the whole state.
fn state_of(step: &TrainingStep, session: &dyn StepSession) -> Result<Vec<Tensor>> {
    (0..step.state.len()).map(|index| session.read(index)).collect()
}

fn interrupted(
    stage: &str,
    kept: &Snapshot,
    trained: (&TrainingStep, &dyn StepSession),
    checkpoints: Option<&Checkpoints>,
) -> Result<Error> {
    let Some(checkpoints) = checkpoints else {
        let text = format!("{stage} stopped at step {}; nothing is kept without --run-folder", kept.done());
        return Ok(Error::Interrupted(text));
    };
    let folder = checkpoints.path.parent().unwrap_or(&checkpoints.path).display();
    if kept.done() == 0 {
        let text = format!("{stage} stopped before there was anything to keep; --resume {folder} begins it anew");
        return Ok(Error::Interrupted(text));
    }
    kept.write(trained, checkpoints)?;
    Ok(Error::Interrupted(format!("{stage} stopped at step {}; go on with --resume {folder}", kept.done())))
}

/// The losses since the last reading; a state that is not finite shows in them too.
struct Reading {
    losses: Vec<f32>,
    width: usize,
}

impl Reading {
    fn of(step: &TrainingStep, session: &dyn StepSession, count: u64) -> Result<Self> {
        let (width, ring) = (1 + step.terms.len(), session.read(step.place_of_losses())?.to_f32()?);
        let count = usize::try_from(count).unwrap_or(usize::MAX).saturating_mul(width).min(ring.len());
        Ok(Self { losses: ring[ring.len() - count..].to_vec(), width })
    }

    fn mean(&self) -> f32 {
        let losses = self.losses.iter().step_by(self.width);
        losses.sum::<f32>() / (self.losses.len() / self.width).max(1) as f32
    }
}

/// The rollback point, beside the state that the session keeps.
#[derive(Clone, Debug)]
struct Snapshot {
    history: History,
    rate: LearningRate,
    /// The number of steps whose losses the state keeps.
    window: usize,
    /// The largest mean loss between two readings.
    largest: f32,
    rollbacks: Vec<Rollback>,
    /// Whether the deadline passed before all steps were done.
    is_up: bool,
}

impl Snapshot {
    fn at_start(step: &TrainingStep, rate: LearningRate) -> Self {
        Self {
            history: History::new(&step.terms),
            rate,
            window: step.losses,
            largest: 0.0,
            rollbacks: Vec::new(),
            is_up: false,
        }
    }

    fn done(&self) -> u64 {
        self.history.steps()
    }

    /// Returns the learning rate of `step`, reduced by every rollback.
    fn rate_at(&self, step: u64) -> f64 {
        self.rollbacks.iter().fold(self.rate.at(step), |rate, _| rate * SLOWER)
    }

    /// Returns the reason why the loss diverged, if it did.
    fn divergence(&self, found: &Reading) -> Option<String> {
        if let Some(place) = found.losses.iter().position(|loss| !loss.is_finite()) {
            let step = self.done() + (place / found.width) as u64;
            return Some(format!("the loss or what is trained became {} in step {step}", found.losses[place]));
        }
        let (before, mean) = (self.largest, found.mean());
        (before > 0.0 && mean > EXPLOSION * before.max(ROUNDING))
            .then(|| format!("the loss rose to {mean:.3}, from {before:.3} at most"))
    }

    fn keep(&mut self, found: &Reading) {
        self.rate.observe_loss(found.mean());
        self.largest = self.largest.max(found.mean().abs());
        self.history.extend(&found.losses);
    }

    /// Records a rollback and returns the message for the user.
    fn go_back(&mut self, (stage, at): (&str, u64), reason: String) -> Result<String> {
        if self.rollbacks.len() == MOST_ROLLBACKS {
            let message = format!("{reason}, after {MOST_ROLLBACKS} times of going back; lower the learning rate");
            return Err(Error::Diverged(message));
        }
        let text = format!("{stage}: {reason}; back to step {}, at half the learning rate", self.done());
        self.rollbacks.push(Rollback { at, to: self.done(), reason });
        Ok(text)
    }

    fn write(&self, (step, session): (&TrainingStep, &dyn StepSession), checkpoints: &Checkpoints) -> Result<()> {
        let mut about = About::new(checkpoints.run.clone(), self.done());
        about.notes.insert(SCHEDULE.to_owned(), json(&self.rate.state())?);
        about.notes.insert(ROLLBACKS.to_owned(), json(&self.rollbacks)?);
        if self.is_up {
            about.notes.insert(TIME_IS_UP.to_owned(), json(&self.is_up)?);
        }
        let mut tensors = BTreeMap::from([(HISTORY.to_owned(), self.history.to_tensor())]);
        tensors.extend(step.state.iter().map(|(name, _)| name.clone()).zip(state_of(step, session)?));
        Checkpoint { tensors, about }.write(&checkpoints.path)
    }

    /// Returns the snapshot and the state of a checkpoint.
    fn restored(step: &TrainingStep, rate: LearningRate, found: Checkpoint) -> Result<(Self, Vec<Tensor>)> {
        let new = Self::at_start(step, rate);
        let Checkpoint { mut tensors, about } = found;
        let missing = |what: &str| Error::malformed("checkpoint", format!("holds no \"{what}\"; start anew"));
        let mut take = |name: &str| tensors.remove(name).ok_or_else(|| missing(name));
        let state = step.state.iter().map(|(name, _)| take(name)).collect::<Result<_>>()?;
        let history = new.history.with(&take(HISTORY)?)?;
        let note = |name: &str| about.notes.get(name).ok_or_else(|| missing(name));
        let schedule = serde_json::from_str(note(SCHEDULE)?).map_err(|_| missing(SCHEDULE))?;
        let rollbacks = serde_json::from_str(note(ROLLBACKS)?).map_err(|_| missing(ROLLBACKS))?;
        let means = |losses: Vec<f32>| {
            losses.chunks(new.window).map(|w| (w.iter().sum::<f32>() / w.len() as f32).abs()).fold(0.0, f32::max)
        };
        let largest = means(history.loss());
        let is_up = about.notes.contains_key(TIME_IS_UP);
        Ok((Self { history, rate: new.rate.resumed(schedule), largest, rollbacks, is_up, ..new }, state))
    }
}

fn json(plain: &impl Serialize) -> Result<String> {
    serde_json::to_string(plain).map_err(|e| Error::malformed("checkpoint", e.to_string()))
}
