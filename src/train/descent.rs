//! The training loop: whose turn it is, learning rates, losses, checkpoints, and rollback when a loss diverges.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{About, Checkpoint, Game, History, Identity, LearningRate, Move, Phase, Plateau, TrainingStep};
use crate::error::{Error, Result};
use crate::ir::{Graph, Tensor};
use crate::observe::{Observer, Progress};
use crate::runtime::{Engine, SessionOptions, StepSession};

/// The name of the loss history in a checkpoint.
const HISTORY: &str = "history";
/// The name of the schedules' state in a checkpoint.
const SCHEDULES: &str = "schedules";
/// The name of the largest losses in a checkpoint.
const LARGEST: &str = "largest losses";
/// The name of the rollbacks in a checkpoint.
const ROLLBACKS: &str = "rollbacks";
/// The name of the note that marks a game stopped by its deadline; when resumed, it ends there too.
const TIME_IS_UP: &str = "time is up";

/// A loss that exceeds its largest value so far by this factor does not recover by itself: noise between windows of
/// steps stays below 3, and an adversary's loss rises by less.
const EXPLOSION: f32 = 10.0;
/// Losses below this are rounding noise, and their growth is not meaningful.
const ROUNDING: f32 = 1e-5;
/// The number of rollbacks before a game fails.
const MOST_ROLLBACKS: usize = 3;
/// The factor on the learning rate at each rollback.
const SLOWER: f64 = 0.5;

/// How a game is played.
#[derive(Clone, Debug, Default)]
pub struct PlayOptions {
    /// The name of the stage, for messages.
    pub stage: String,
    /// Where checkpoints are written, if anywhere.
    pub checkpoints: Option<Checkpoints>,
    /// The deadline at which it ends early.
    pub until: Option<Instant>,
}

/// The length and learning rate of a descent.
#[derive(Clone, Debug)]
pub struct FitOptions {
    /// Total number of steps.
    pub steps: u64,
    /// The learning-rate schedule.
    pub rate: LearningRate,
    /// The name of its stage, its checkpoints and its deadline.
    pub play: PlayOptions,
}

/// The checkpoint file of a game.
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

/// The result of a game.
#[derive(Clone, Debug, PartialEq)]
pub struct Played {
    /// The state after the last step, by name, in the order of [`Game::state`].
    pub state: Vec<(String, Tensor)>,
    /// The losses of every step of each phase, in the order of [`Game::phases`].
    pub histories: Vec<History>,
    /// The step it was resumed at.
    pub resumed: u64,
    /// The rollbacks.
    pub rollbacks: Vec<Rollback>,
}

impl Played {
    /// Returns the entry of the state named `name`.
    ///
    /// # Errors
    /// [`Error::Shape`] when there is none.
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        entry(&self.state, name)
    }

    /// Returns the number of steps.
    pub fn steps(&self) -> u64 {
        self.histories.iter().map(History::steps).sum()
    }

    /// Returns the losses of every step and their terms by name, behind the name of the phase where there are several.
    pub fn losses(&self) -> Vec<(String, Vec<f32>)> {
        self.histories.iter().flat_map(History::terms).collect()
    }
}

/// Returns the entry of a state named `name`.
///
/// # Errors
/// [`Error::Shape`] when there is none.
pub fn entry(state: &[(String, Tensor)], name: &str) -> Result<Tensor> {
    let found = state.iter().find(|entry| entry.0 == name).map(|entry| entry.1.clone());
    found.ok_or_else(|| Error::shape("state", format!("has no entry \"{name}\"")))
}

/// Makes the steps of a single step graph; see [`play`]. `feed` returns the feeds of a step before the learning rates.
///
/// # Errors
/// As [`play`].
pub fn descend(
    step: &TrainingStep,
    engine: &dyn Engine,
    options: FitOptions,
    feed: &mut dyn FnMut(u64) -> Result<Vec<Tensor>>,
    observer: &mut dyn Observer,
) -> Result<Played> {
    let game = Game::of_step(step, options.rate, options.steps);
    play(&game, engine, &options.play, &mut |made| feed(made.number), observer)
}

/// Plays all steps of `game` on `engine`. `feed` returns the feeds of a step before the learning rates; `observer`
/// receives the completed steps and the latest losses.
///
/// Whenever the losses are read and are valid, the engine keeps a snapshot of the state on its device; when a loss
/// diverges, the game goes back to it and continues at half the learning rates. Snapshots are copied to the host only
/// for a checkpoint and at the end. At the deadline, the losses since the last reading are read once more.
///
/// # Errors
/// When the engine fails; a checkpoint that is damaged or belongs to another run; [`Error::Diverged`] when a loss
/// diverges repeatedly; [`Error::Interrupted`] when the observer requests it, once the checkpoint is written.
pub fn play(
    game: &Game,
    engine: &dyn Engine,
    options: &PlayOptions,
    feed: &mut dyn FnMut(Move) -> Result<Vec<Tensor>>,
    observer: &mut dyn Observer,
) -> Result<Played> {
    let PlayOptions { stage, checkpoints, until } = options;
    let (stage, steps) = (stage.as_str(), game.steps());
    let (mut kept, start) = match checkpoints.as_ref().map(Checkpoints::found).transpose()?.flatten() {
        Some(found) => Snapshot::restored(game, found)?,
        None => (Snapshot::at_start(game), game.state().to_vec()),
    };
    let resumed = kept.done();
    let graphs: Vec<&Graph> = game.phases().iter().map(|phase| &phase.step.graph).collect();
    let session_options = SessionOptions { prepacking: true, ..SessionOptions::default() };
    let mut session = engine.load_steps(&graphs, &start, &session_options)?;
    drop(start);
    let is_up = || until.is_some_and(|until| Instant::now() >= until);
    let window = game.phases().iter().map(|phase| phase.step.losses as u64).min().unwrap_or(1).max(1);
    let (mut done, mut written) = (kept.done(), None::<Instant>);
    kept.is_up |= is_up();
    while kept.done() < steps && !kept.is_up {
        let made = game.at(done);
        let mut feeds = feed(made)?;
        feeds.push(kept.rates(game, made));
        session.step(made.phase, &feeds)?;
        done += 1;
        if observer.is_interrupted() {
            session.go_back()?;
            return Err(interrupted(stage, &kept, (game, session.as_ref()), checkpoints.as_ref())?);
        }
        kept.is_up = is_up();
        if !done.is_multiple_of(window) && done < steps && !kept.is_up {
            observer.progress(&Progress { stage, done, steps, losses: &kept.last() });
            continue;
        }
        let found = read(game, session.as_ref(), kept.done()..done)?;
        if let Some(reason) = kept.divergence(game, &found) {
            observer.note(&kept.go_back((stage, done), reason)?);
            session.go_back()?;
            done = kept.done();
            continue;
        }
        kept.keep(&found);
        session.keep()?;
        observer.progress(&Progress { stage, done, steps, losses: &kept.last() });
        let is_due = |c: &&Checkpoints| written.is_none_or(|last| last.elapsed() >= c.interval) || done == steps;
        if let Some(checkpoints) = checkpoints.as_ref().filter(is_due) {
            kept.write((game, session.as_ref()), checkpoints)?;
            written = Some(Instant::now());
        }
    }
    if let Some(checkpoints) = checkpoints.as_ref().filter(|_| kept.is_up) {
        kept.write((game, session.as_ref()), checkpoints)?;
    }
    let state = state_of(game, session.as_ref())?;
    let Snapshot { histories, rollbacks, .. } = kept;
    Ok(Played { state, histories, resumed, rollbacks })
}

/// Returns a copy of the whole state.
fn state_of(game: &Game, session: &dyn StepSession) -> Result<Vec<(String, Tensor)>> {
    let entries = game.state().iter().enumerate();
    entries.map(|(index, (name, _))| Ok((name.clone(), session.read(index)?))).collect()
}

fn interrupted(
    stage: &str,
    kept: &Snapshot,
    trained: (&Game, &dyn StepSession),
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

/// The losses of a phase since the last reading; a state that is not finite shows in them too.
struct Reading {
    losses: Vec<f32>,
    /// The loss and its terms.
    width: usize,
}

/// Returns the losses of each phase in the steps `range` of the game.
fn read(game: &Game, session: &dyn StepSession, range: Range<u64>) -> Result<Vec<Reading>> {
    let mut counts = vec![0usize; game.phases().len()];
    range.for_each(|done| counts[game.at(done).phase] += 1);
    let phases = game.phases().iter().zip(counts);
    let of_phase = |(phase, count): (&Phase, usize)| {
        let width = 1 + phase.step.terms.len();
        if count == 0 {
            return Ok(Reading { losses: Vec::new(), width });
        }
        let name = phase.step.losses_entry();
        let place = game.state().iter().position(|entry| entry.0 == name);
        let place = place.ok_or_else(|| Error::shape("state", format!("has no entry \"{name}\"")))?;
        let ring = session.read(place)?.to_f32()?;
        let count = count.saturating_mul(width).min(ring.len());
        Ok(Reading { losses: ring[ring.len() - count..].to_vec(), width })
    };
    phases.map(of_phase).collect()
}

impl Reading {
    fn mean(&self) -> f32 {
        let losses = self.losses.iter().step_by(self.width);
        losses.sum::<f32>() / (self.losses.len() / self.width).max(1) as f32
    }
}

/// The rollback point, beside the state that the session keeps.
#[derive(Clone, Debug)]
struct Snapshot {
    /// Those of each phase.
    histories: Vec<History>,
    /// Those of each phase and player.
    rates: Vec<Vec<LearningRate>>,
    /// The largest mean loss of each phase between two readings.
    largest: Vec<f32>,
    rollbacks: Vec<Rollback>,
    /// Whether the deadline passed before all steps were done.
    is_up: bool,
}

impl Snapshot {
    fn at_start(game: &Game) -> Self {
        Self {
            histories: game.phases().iter().map(|phase| History::new(&phase.name, &phase.step.terms)).collect(),
            rates: game.phases().iter().map(|phase| phase.rates.clone()).collect(),
            largest: vec![0.0; game.phases().len()],
            rollbacks: Vec::new(),
            is_up: false,
        }
    }

    fn done(&self) -> u64 {
        self.histories.iter().map(History::steps).sum()
    }

    /// Returns the latest losses of all phases.
    fn last(&self) -> Vec<(&str, f32)> {
        self.histories.iter().filter(|history| history.steps() > 0).flat_map(History::last).collect()
    }

    /// Returns the feed of the learning rates in the step `made`, reduced by every rollback.
    fn rates(&self, game: &Game, Move { phase, number }: Move) -> Tensor {
        let reduced = |rate: &LearningRate| self.rollbacks.iter().fold(rate.at(number), |rate, _| rate * SLOWER);
        let rates: Vec<f64> = self.rates[phase].iter().map(reduced).collect();
        game.phases()[phase].step.rates(&rates, number)
    }

    /// Returns the reason why a loss diverged, if one did.
    fn divergence(&self, game: &Game, found: &[Reading]) -> Option<String> {
        (0..found.len()).filter(|&phase| !found[phase].losses.is_empty()).find_map(|phase| {
            let Reading { losses, width } = &found[phase];
            let name = &game.phases()[phase].name;
            let of = if name.is_empty() { String::new() } else { format!(" of the phase {name}") };
            if let Some(place) = losses.iter().position(|loss| !loss.is_finite()) {
                let step = self.histories[phase].steps() + (place / width) as u64;
                return Some(format!("the loss or what is trained became {} in step {step}{of}", losses[place]));
            }
            let (before, mean) = (self.largest[phase], found[phase].mean());
            (before > 0.0 && mean > EXPLOSION * before.max(ROUNDING))
                .then(|| format!("the loss{of} rose to {mean:.3}, from {before:.3} at most"))
        })
    }

    fn keep(&mut self, found: &[Reading]) {
        for (phase, reading) in found.iter().enumerate().filter(|(_, reading)| !reading.losses.is_empty()) {
            let mean = reading.mean();
            self.rates[phase].iter_mut().for_each(|rate| rate.observe_loss(mean));
            self.largest[phase] = self.largest[phase].max(mean.abs());
            self.histories[phase].extend(&reading.losses);
        }
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

    fn write(&self, (game, session): (&Game, &dyn StepSession), checkpoints: &Checkpoints) -> Result<()> {
        let mut about = About::new(checkpoints.run.clone(), self.done());
        let states: Vec<Vec<Plateau>> =
            self.rates.iter().map(|rates| rates.iter().map(LearningRate::state).collect()).collect();
        about.notes.insert(SCHEDULES.to_owned(), json(&states)?);
        about.notes.insert(LARGEST.to_owned(), json(&self.largest)?);
        about.notes.insert(ROLLBACKS.to_owned(), json(&self.rollbacks)?);
        if self.is_up {
            about.notes.insert(TIME_IS_UP.to_owned(), json(&self.is_up)?);
        }
        let histories = game.phases().iter().zip(&self.histories);
        let histories = histories.map(|(phase, history)| (history_of(phase), history.to_tensor()));
        let mut tensors: BTreeMap<String, Tensor> = histories.collect();
        tensors.extend(state_of(game, session)?);
        Checkpoint { tensors, about }.write(&checkpoints.path)
    }

    /// Returns the snapshot and the state of a checkpoint.
    fn restored(game: &Game, found: Checkpoint) -> Result<(Self, Vec<(String, Tensor)>)> {
        let mut kept = Self::at_start(game);
        let Checkpoint { mut tensors, about } = found;
        let missing = |what: &str| Error::malformed("checkpoint", format!("holds no \"{what}\"; start anew"));
        let mut take = |name: &str| tensors.remove(name).ok_or_else(|| missing(name));
        let state = game.state().iter().map(|(name, _)| Ok((name.clone(), take(name)?))).collect::<Result<_>>()?;
        let of_phase = |(phase, history): (&Phase, History)| history.with(&take(&history_of(phase))?);
        kept.histories = game.phases().iter().zip(kept.histories).map(of_phase).collect::<Result<_>>()?;
        let note = |name: &str| about.notes.get(name).ok_or_else(|| missing(name));
        let schedules: Vec<Vec<Plateau>> = serde_json::from_str(note(SCHEDULES)?).map_err(|_| missing(SCHEDULES))?;
        let resumed = |(rates, states): (Vec<LearningRate>, Vec<Plateau>)| -> Vec<LearningRate> {
            rates.into_iter().zip(states).map(|(rate, state)| rate.resumed(state)).collect()
        };
        kept.rates = kept.rates.into_iter().zip(schedules).map(resumed).collect();
        kept.largest = serde_json::from_str(note(LARGEST)?).map_err(|_| missing(LARGEST))?;
        kept.rollbacks = serde_json::from_str(note(ROLLBACKS)?).map_err(|_| missing(ROLLBACKS))?;
        kept.is_up = about.notes.contains_key(TIME_IS_UP);
        if kept.rates.len() != game.phases().len() || kept.largest.len() != game.phases().len() {
            return Err(missing(SCHEDULES));
        }
        Ok((kept, state))
    }
}

/// The name of a phase's losses in a checkpoint.
fn history_of(phase: &Phase) -> String {
    if phase.name.is_empty() { HISTORY.to_owned() } else { format!("{}/{HISTORY}", phase.name) }
}

fn json(plain: &impl Serialize) -> Result<String> {
    serde_json::to_string(plain).map_err(|e| Error::malformed("checkpoint", e.to_string()))
}
