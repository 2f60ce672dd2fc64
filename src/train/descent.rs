//! The training loop: steps, readings of losses, checkpoints, and rollback when a loss diverges.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::snapshot::{Snapshot, read, state_of};
use super::{Checkpoint, Game, History, Identity, LearningRate, Move, TrainingStep};
use crate::error::{Error, Result};
use crate::ir::{Graph, Tensor};
use crate::observe::{Observer, Progress};
use crate::runtime::{Engine, SessionOptions};

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
        feeds.push(kept.rates(made));
        session.step(made.phase, &feeds)?;
        done += 1;
        if observer.is_interrupted() {
            session.go_back()?;
            return Err(kept.interrupted(stage, session.as_ref(), checkpoints.as_ref())?);
        }
        kept.is_up = is_up();
        if !done.is_multiple_of(window) && done < steps && !kept.is_up {
            observer.progress(&Progress { stage, done, steps, losses: &kept.last() });
            continue;
        }
        let found = read(game, session.as_ref(), kept.done()..done)?;
        if let Some(reason) = kept.divergence(&found) {
            observer.note(&kept.go_back(stage, done, reason)?);
            session.go_back()?;
            done = kept.done();
            continue;
        }
        kept.keep(&found);
        session.keep()?;
        observer.progress(&Progress { stage, done, steps, losses: &kept.last() });
        let is_due = |c: &&Checkpoints| written.is_none_or(|last| last.elapsed() >= c.interval) || done == steps;
        if let Some(checkpoints) = checkpoints.as_ref().filter(is_due) {
            kept.write(session.as_ref(), checkpoints)?;
            written = Some(Instant::now());
        }
    }
    if let Some(checkpoints) = checkpoints.as_ref().filter(|_| kept.is_up) {
        kept.write(session.as_ref(), checkpoints)?;
    }
    let state = state_of(game, session.as_ref())?;
    let Snapshot { histories, rollbacks, .. } = kept;
    Ok(Played { state, histories, resumed, rollbacks })
}
