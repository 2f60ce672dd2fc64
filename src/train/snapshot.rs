//! The point that a game returns to when a loss diverges, and its checkpoint.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Serialize;

use super::{About, Checkpoint, Checkpoints, Game, History, LearningRate, Move, Phase, Plateau, Rollback};
use crate::error::{Error, Result};
use crate::ir::Tensor;
use crate::runtime::StepSession;

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

/// Losses, schedules and rollbacks at the last valid reading of a game; the session keeps the state itself.
#[derive(Clone, Debug)]
pub(super) struct Snapshot<'a> {
    game: &'a Game,
    /// The losses of each phase.
    pub histories: Vec<History>,
    /// The learning rate of each player, by phase.
    rates: Vec<Vec<LearningRate>>,
    /// The largest mean loss of each phase between two readings.
    largest: Vec<f32>,
    pub rollbacks: Vec<Rollback>,
    /// Whether the deadline passed before all steps were done.
    pub is_up: bool,
}

impl<'a> Snapshot<'a> {
    /// Returns the beginning of a game.
    pub fn at_start(game: &'a Game) -> Self {
        Self {
            game,
            histories: game.phases().iter().map(|phase| History::new(&phase.name, &phase.step.terms)).collect(),
            rates: game.phases().iter().map(|phase| phase.rates.clone()).collect(),
            largest: vec![0.0; game.phases().len()],
            rollbacks: Vec::new(),
            is_up: false,
        }
    }

    /// Returns the snapshot and the state of a checkpoint.
    ///
    /// # Errors
    /// [`Error::Malformed`] where an entry is missing or of another shape.
    pub fn restored(game: &'a Game, found: Checkpoint) -> Result<(Self, Vec<(String, Tensor)>)> {
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

    /// Returns the number of steps that it holds.
    pub fn done(&self) -> u64 {
        self.histories.iter().map(History::steps).sum()
    }

    /// Returns the latest losses of all phases.
    pub fn last(&self) -> Vec<(&str, f32)> {
        self.histories.iter().filter(|history| history.steps() > 0).flat_map(History::last).collect()
    }

    /// Returns the feed of the learning rates in the step `made`, reduced by every rollback.
    pub fn rates(&self, Move { phase, number }: Move) -> Tensor {
        let reduced = |rate: &LearningRate| self.rollbacks.iter().fold(rate.at(number), |rate, _| rate * SLOWER);
        let rates: Vec<f64> = self.rates[phase].iter().map(reduced).collect();
        self.game.phases()[phase].step.rates(&rates, number)
    }

    /// Returns the reason why a loss diverged, if one did.
    pub fn divergence(&self, found: &[Reading]) -> Option<String> {
        (0..found.len()).filter(|&phase| !found[phase].losses.is_empty()).find_map(|phase| {
            let Reading { losses, width } = &found[phase];
            let name = &self.game.phases()[phase].name;
            let of = if name.is_empty() { String::new() } else { format!(" of the phase {name}") };
            if let Some(place) = losses.iter().position(|loss| !loss.is_finite()) {
                let step = self.histories[phase].steps() + (place / width) as u64;
                return Some(format!("the loss or a trained value became {} in step {step}{of}", losses[place]));
            }
            let (before, mean) = (self.largest[phase], found[phase].mean());
            (before > 0.0 && mean > EXPLOSION * before.max(ROUNDING))
                .then(|| format!("the loss{of} rose to {mean:.3}, from {before:.3} at most"))
        })
    }

    /// Adds the losses of valid steps.
    pub fn keep(&mut self, found: &[Reading]) {
        for (phase, reading) in found.iter().enumerate().filter(|(_, reading)| !reading.losses.is_empty()) {
            let mean = reading.mean();
            self.rates[phase].iter_mut().for_each(|rate| rate.observe_loss(mean));
            self.largest[phase] = self.largest[phase].max(mean.abs());
            self.histories[phase].extend(&reading.losses);
        }
    }

    /// Records a rollback after `at` steps and returns the message for the user.
    ///
    /// # Errors
    /// [`Error::Diverged`] after too many rollbacks.
    pub fn go_back(&mut self, stage: &str, at: u64, reason: String) -> Result<String> {
        if self.rollbacks.len() == MOST_ROLLBACKS {
            let message = format!("{reason}, after {MOST_ROLLBACKS} rollbacks; lower the learning rate");
            return Err(Error::Diverged(message));
        }
        let text = format!("{stage}: {reason}; back to step {}, at half the learning rate", self.done());
        self.rollbacks.push(Rollback { at, to: self.done(), reason });
        Ok(text)
    }

    /// Writes the checkpoint, if any, and returns the error of a game that was interrupted.
    ///
    /// # Errors
    /// As [`Snapshot::write`].
    pub fn interrupted(
        &self,
        stage: &str,
        session: &dyn StepSession,
        checkpoints: Option<&Checkpoints>,
    ) -> Result<Error> {
        let Some(checkpoints) = checkpoints else {
            let text = format!("{stage} stopped at step {}; without --run-folder there is no checkpoint", self.done());
            return Ok(Error::Interrupted(text));
        };
        let folder = checkpoints.path.parent().unwrap_or(&checkpoints.path).display();
        if self.done() == 0 {
            let text = format!("{stage} stopped before the first checkpoint; --resume {folder} starts it again");
            return Ok(Error::Interrupted(text));
        }
        self.write(session, checkpoints)?;
        Ok(Error::Interrupted(format!("{stage} stopped at step {}; continue with --resume {folder}", self.done())))
    }

    /// Writes the checkpoint with the state of `session`.
    ///
    /// # Errors
    /// When the state cannot be read or the file not be written.
    pub fn write(&self, session: &dyn StepSession, checkpoints: &Checkpoints) -> Result<()> {
        let mut about = About::new(checkpoints.run.clone(), self.done());
        let states: Vec<Vec<Plateau>> =
            self.rates.iter().map(|rates| rates.iter().map(LearningRate::state).collect()).collect();
        about.notes.insert(SCHEDULES.to_owned(), json(&states)?);
        about.notes.insert(LARGEST.to_owned(), json(&self.largest)?);
        about.notes.insert(ROLLBACKS.to_owned(), json(&self.rollbacks)?);
        if self.is_up {
            about.notes.insert(TIME_IS_UP.to_owned(), json(&self.is_up)?);
        }
        let histories = self.game.phases().iter().zip(&self.histories);
        let histories = histories.map(|(phase, history)| (history_of(phase), history.to_tensor()));
        let mut tensors: BTreeMap<String, Tensor> = histories.collect();
        tensors.extend(state_of(self.game, session)?);
        Checkpoint { tensors, about }.write(&checkpoints.path)
    }
}

/// Returns a copy of the whole state.
///
/// # Errors
/// When the session cannot read it.
pub(super) fn state_of(game: &Game, session: &dyn StepSession) -> Result<Vec<(String, Tensor)>> {
    let entries = game.state().iter().enumerate();
    entries.map(|(index, (name, _))| Ok((name.clone(), session.read(index)?))).collect()
}

/// The losses of a phase since the last reading; a state that is not finite shows in them too.
pub(super) struct Reading {
    losses: Vec<f32>,
    /// The loss and its terms.
    width: usize,
}

impl Reading {
    fn mean(&self) -> f32 {
        let losses = self.losses.iter().step_by(self.width);
        losses.sum::<f32>() / (self.losses.len() / self.width).max(1) as f32
    }
}

/// Returns the losses of each phase in the steps `range` of the game.
///
/// # Errors
/// When the session cannot read them.
pub(super) fn read(game: &Game, session: &dyn StepSession, range: Range<u64>) -> Result<Vec<Reading>> {
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

/// Returns the name of a phase's losses in a checkpoint.
fn history_of(phase: &Phase) -> String {
    if phase.name.is_empty() { HISTORY.to_owned() } else { format!("{}/{HISTORY}", phase.name) }
}

fn json(plain: &impl Serialize) -> Result<String> {
    serde_json::to_string(plain).map_err(|e| Error::malformed("checkpoint", e.to_string()))
}
