//! Which training step follows which: the phases of a game over one state, and their turns.

use super::{LearningRate, TrainingStep};
use crate::error::{Error, Result};
use crate::ir::Tensor;

/// One phase: a training step with the learning rate of each of its players.
#[derive(Clone, Debug)]
pub struct Phase {
    /// Its name, unique in the game; empty for the only one.
    pub name: String,
    /// The step.
    pub step: TrainingStep,
    /// The learning rate of each of [`TrainingStep::optimisers`] over the steps of this phase.
    pub rates: Vec<LearningRate>,
}

/// How often the turn of a phase comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The place of the phase in the game.
    pub phase: usize,
    /// Steps of it before the first round.
    pub warm_up: u64,
    /// Steps of it in each round.
    pub steps: u64,
}

impl Turn {
    /// Returns the turn of a phase in every round.
    pub fn of(phase: usize, steps: u64) -> Self {
        Self { phase, warm_up: 0, steps }
    }

    /// Returns the same turn behind a warm-up.
    #[must_use]
    pub fn after(self, warm_up: u64) -> Self {
        Self { warm_up, ..self }
    }
}

/// A step of a game.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// The place of its phase in the game.
    pub phase: usize,
    /// Steps of this phase before it.
    pub number: u64,
}

/// Phases that take turns over one state, such as a generator and a student that are trained against each other.
#[derive(Clone, Debug)]
pub struct Game {
    phases: Vec<Phase>,
    turns: Vec<Turn>,
    rounds: u64,
    state: Vec<(String, Tensor)>,
}

impl Game {
    /// Returns the game of `phases`: the warm-ups of all `turns` one after the other, then `rounds` times their steps one
    /// after the other. Entries of the state that several phases name are one.
    ///
    /// # Errors
    /// [`Error::Shape`] where two phases begin an entry with different values.
    pub fn new(phases: Vec<Phase>, turns: Vec<Turn>, rounds: u64) -> Result<Self> {
        let mut state: Vec<(String, Tensor)> = Vec::new();
        for (name, start) in phases.iter().flat_map(|phase| &phase.step.state) {
            match state.iter().find(|entry| entry.0 == *name) {
                Some((_, other)) if other != start => {
                    let message = "begins with different values in two phases; give it one initial value";
                    return Err(Error::shape(format!("entry \"{name}\" of the state"), message));
                }
                Some(_) => {}
                None => state.push((name.clone(), start.clone())),
            }
        }
        Ok(Self { phases, turns, rounds, state })
    }

    /// Returns the game of a single phase that makes `steps` steps.
    pub fn of_step(step: &TrainingStep, rate: LearningRate, steps: u64) -> Self {
        let rates = vec![rate; step.optimisers.len()];
        let state = step.state.clone();
        let phases = vec![Phase { name: String::new(), step: step.clone(), rates }];
        Self { phases, turns: vec![Turn { phase: 0, warm_up: 0, steps: 1 }], rounds: steps, state }
    }

    /// Returns the phases.
    pub fn phases(&self) -> &[Phase] {
        &self.phases
    }

    /// Returns the entries of the state of all phases, with their initial values.
    pub fn state(&self) -> &[(String, Tensor)] {
        &self.state
    }

    /// Returns the number of steps of all phases.
    pub fn steps(&self) -> u64 {
        self.warm_up().saturating_add(self.rounds.saturating_mul(self.round()))
    }

    /// Returns the turns, rounds and learning rates as text, for fingerprints.
    pub fn schedule(&self) -> String {
        let rates: Vec<String> = self.phases.iter().map(|phase| format!("{:?}", phase.rates)).collect();
        format!("{:?} {} {rates:?}", self.turns, self.rounds)
    }

    fn warm_up(&self) -> u64 {
        self.turns.iter().map(|turn| turn.warm_up).sum()
    }

    fn round(&self) -> u64 {
        self.turns.iter().map(|turn| turn.steps).sum()
    }

    /// Returns the step after `done` others.
    pub fn at(&self, done: u64) -> Move {
        let mut rest = done;
        for (at, turn) in self.turns.iter().enumerate() {
            if rest < turn.warm_up {
                let before = self.steps_of(turn.phase, &self.turns[..at], |turn| turn.warm_up);
                return Move { phase: turn.phase, number: before + rest };
            }
            rest -= turn.warm_up;
        }
        let (round, mut rest) = (rest / self.round().max(1), rest % self.round().max(1));
        let in_a_round = |turn: &Turn| turn.steps;
        for (at, turn) in self.turns.iter().enumerate() {
            if rest < turn.steps {
                let before = self.steps_of(turn.phase, &self.turns, |turn| turn.warm_up)
                    + round * self.steps_of(turn.phase, &self.turns, in_a_round)
                    + self.steps_of(turn.phase, &self.turns[..at], in_a_round);
                return Move { phase: turn.phase, number: before + rest };
            }
            rest -= turn.steps;
        }
        Move { phase: 0, number: done }
    }

    fn steps_of(&self, phase: usize, turns: &[Turn], count: impl Fn(&Turn) -> u64) -> u64 {
        turns.iter().filter(|turn| turn.phase == phase).map(count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn game(turns: &[(usize, u64, u64)], rounds: u64) -> Game {
        let turns = turns.iter().map(|&(phase, warm_up, steps)| Turn { phase, warm_up, steps }).collect();
        Game { phases: Vec::new(), turns, rounds, state: Vec::new() }
    }

    #[test]
    fn phases_take_turns_and_count_their_own_steps() {
        /// Name, game, and phase and number of each of its steps.
        type Case = (&'static str, Game, &'static [(usize, u64)]);
        let cases: [Case; 5] = [
            ("one phase", game(&[(0, 0, 1)], 3), &[(0, 0), (0, 1), (0, 2)]),
            (
                "warm-up of one, then one step each",
                game(&[(0, 2, 1), (1, 0, 1)], 2),
                &[(0, 0), (0, 1), (0, 2), (1, 0), (0, 3), (1, 1)],
            ),
            (
                "one step, then several",
                game(&[(0, 1, 1), (1, 0, 2)], 2),
                &[(0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (1, 2), (1, 3)],
            ),
            (
                "a phase with two turns",
                game(&[(0, 1, 1), (1, 1, 1), (0, 0, 1)], 2),
                &[(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (0, 3), (1, 2), (0, 4)],
            ),
            ("a phase that only warms up", game(&[(0, 2, 0), (1, 0, 1)], 2), &[(0, 0), (0, 1), (1, 0), (1, 1)]),
        ];
        let mut failed = Vec::new();
        for (name, game, expected) in &cases {
            let found: Vec<(usize, u64)> =
                (0..game.steps()).map(|done| game.at(done)).map(|Move { phase, number }| (phase, number)).collect();
            if found != *expected {
                failed.push(format!("{name}: {found:?}"));
            }
        }
        assert!(failed.is_empty(), "{failed:#?}");
    }
}
