//! The loop over steps: rates, losses, checkpoints, and the way back where a loss diverges.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{About, Checkpoint, History, Identity, LearningRate, TrainingStep};
use crate::error::{Error, Result};
use crate::ir::Tensor;
use crate::observe::{Observer, Progress};
use crate::runtime::{Engine, SessionOptions, StepSession};

/// The name of the losses of all steps in a checkpoint.
const HISTORY: &str = "history";
/// The name of a schedule's state in a checkpoint.
const SCHEDULE: &str = "schedule";
/// The name of the rollbacks in a checkpoint.
const ROLLBACKS: &str = "rollbacks";
/// The name of a note in the checkpoint of a descent whose time was up, which ends there when it is resumed, too.
const TIME_IS_UP: &str = "time is up";

/// A loss this many times as large as it has ever been will not come back by itself: ordinary noise between windows of
/// steps is below 3, and an adversary's loss rises by less.
const EXPLOSION: f32 = 10.0;
/// Smaller losses are rounding, and say nothing by their growth.
const ROUNDING: f32 = 1e-5;
/// How often a descent goes back before it gives up.
const MOST_ROLLBACKS: usize = 3;
/// What the learning rate is multiplied by when a descent goes back.
const SLOWER: f64 = 0.5;

/// How long a descent is and how fast it goes.
#[derive(Clone, Debug)]
pub struct FitOptions {
    /// Steps in all.
    pub steps: u64,
    /// Learning rates.
    pub rate: LearningRate,
    /// Where it can be taken up again.
    pub checkpoints: Option<Checkpoints>,
    /// When it ends before all steps are done.
    pub until: Option<Instant>,
}

/// The file of a descent.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    /// The file.
    pub path: PathBuf,
    /// The run that it belongs to.
    pub run: Identity,
    /// Whether to go on from what the file holds; without one, from the beginning.
    pub resume: bool,
    /// Time between two checkpoints at least. The first is written as soon as losses are read, so that a folder that takes
    /// none is found out early.
    pub interval: Duration,
}

impl Checkpoints {
    /// Returns what there is to go on from.
    ///
    /// # Errors
    /// When it is damaged or of another run.
    pub fn found(&self) -> Result<Option<Checkpoint>> {
        if !self.resume || !self.path.exists() {
            return Ok(None);
        }
        let found = Checkpoint::read(&self.path)?;
        found.check(&self.path, &self.run)?;
        Ok(Some(found))
    }
}

/// Steps that were taken back because the loss diverged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rollback {
    /// Steps done when it was found out.
    pub at: u64,
    /// Steps done in the state that it went back to.
    pub to: u64,
    /// What diverged.
    pub reason: String,
}

/// What a descent came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Descent {
    /// The state behind the last step, in the order of [`TrainingStep::state`].
    pub state: Vec<Tensor>,
    /// The losses of every step.
    pub history: History,
    /// The step that it was taken up at.
    pub resumed: u64,
    /// Where it went back.
    pub rollbacks: Vec<Rollback>,
}

/// Makes all steps of `course` by `engine`; `feed` gives what each is fed before the rates, and `observer` hears of the
/// steps of `stage` that are done, and of the losses that were read last.
///
/// Whenever losses are read and are sound, the state is kept where the engine computes; where the loss diverges, the
/// descent goes back there and on at half the rate. Only what was kept so is ever copied to the host: for a checkpoint,
/// and in the end. When time is up, what was done since is read once more.
///
/// # Errors
/// When the engine fails; a checkpoint that is damaged or of another run; [`Error::Diverged`] when the loss diverges again
/// and again; [`Error::Interrupted`] when the observer asks for it, once the checkpoint is written.
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

/// What is read of a session: the losses since the last time, which tell of a state that is not finite, too.
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

/// Where a descent can go back to, beside the state that the session keeps.
#[derive(Clone, Debug)]
struct Snapshot {
    history: History,
    rate: LearningRate,
    /// The steps whose losses the state keeps.
    window: usize,
    /// The largest mean loss between two readings.
    largest: f32,
    rollbacks: Vec<Rollback>,
    /// Whether time was up before all steps were done.
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

    /// Returns the learning rate of `step`, which every way back made smaller.
    fn rate_at(&self, step: u64) -> f64 {
        self.rollbacks.iter().fold(self.rate.at(step), |rate, _| rate * SLOWER)
    }

    /// Returns what diverged, if anything did.
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

    /// Slows down, and returns what is to be said of it.
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

    /// Returns what a checkpoint holds, and the state in it.
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
