//! Plays games and descents: with the run's checkpoints, deadline and observer, and a report.

use std::time::Instant;

use super::Lab;
use crate::digest::sha256;
use crate::error::Result;
use crate::expr::STANDARD;
use crate::ir::Tensor;
use crate::solution::{Solution, Solved};
use crate::train::{
    BuiltPhase, Checkpoints, DescentReport, Footprint, Game, History, LearningRate, Move, PhaseSpec, PlayOptions,
    Played, Schedule, TrainingStep, Turn, fingerprint, fitting_batch, play,
};

/// Separates the random numbers of the phases of a stage.
const OF_PHASE: u64 = 0x9e37_79b9_7f4a_7c15;

/// Samples per step where nothing else is said: twice the batch for half the steps measured worse.
const BATCH: usize = 32;

/// Phases that take turns, and how long.
pub struct GamePlan<'a> {
    /// Its name and that of its checkpoint.
    pub name: &'static str,
    /// The phases.
    pub phases: Vec<PhaseSpec<'a>>,
    /// Whose turn it is, and how often.
    pub turns: Vec<Turn>,
    /// The number of rounds behind all warm-ups.
    pub rounds: u64,
    /// Whether its phases draw batches of training inputs.
    pub draws_batches: bool,
    /// Samples per step, where neither the user, the model nor the memory says otherwise.
    pub batch: usize,
    /// The learning rate to report.
    pub learning_rate: f64,
    /// Separates its random numbers from those of other stages.
    pub stage: u64,
    /// What its steps depend on besides the run, the start and the inputs.
    pub key: String,
}

impl Default for GamePlan<'_> {
    fn default() -> Self {
        Self {
            name: "",
            phases: Vec::new(),
            turns: Vec::new(),
            rounds: 0,
            draws_batches: false,
            batch: BATCH,
            learning_rate: 0.0,
            stage: 0,
            key: String::new(),
        }
    }
}

/// A planned descent of a single step graph.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Its name and that of its checkpoint.
    pub name: String,
    /// The number of steps.
    pub steps: u64,
    /// Samples per step.
    pub batch: usize,
    /// The initial learning rate; see [`Student`](crate::train::Student) for its unit.
    pub learning_rate: f64,
    /// The learning-rate schedule.
    pub schedule: Schedule,
    /// The time at which it ends early.
    pub until: Option<Instant>,
    /// The fingerprint of what its steps depend on besides the run, the start and the inputs.
    pub key: String,
}

/// A game that is ready to be played, with what a report and a checkpoint need besides.
struct Ready<'a> {
    name: &'a str,
    game: Game,
    batch: usize,
    learning_rate: f64,
    bytes: usize,
    until: Option<Instant>,
    /// The fingerprint of what its steps depend on besides the run, the start and the inputs.
    key: String,
}

impl Lab<'_> {
    /// Plays all rounds of a game that starts from `solved`, as [`Lab::descend`] makes the steps of a descent.
    ///
    /// # Errors
    /// As [`Lab::descend`], and where a phase cannot be built.
    pub fn play(&mut self, plan: &GamePlan, solved: &Solved) -> Result<(Played, DescentReport)> {
        let GamePlan { name, phases, turns, rounds, learning_rate, stage, key, .. } = plan;
        let lowering = self.context.engine.lowering();
        let build = |batch: usize| -> Result<Vec<BuiltPhase>> {
            phases.iter().map(|phase| phase.built(batch, &lowering)).collect()
        };
        let usual = plan.batch.min(self.samples());
        let (mut built, batch) = fitting_batch(self.float, self.run.settings, usual, &build)?;
        if plan.draws_batches {
            self.check_batch(batch)?;
        }
        for phase in phases {
            let file = if phase.name.is_empty() { (*name).to_owned() } else { format!("{name}.{}", phase.name) };
            self.save_graph(&file, || Ok(phase.built(batch, &STANDARD)?.phase.step))?;
        }
        let bytes = built.peak_bytes();
        let game = Game::new(built.iter().map(|built| built.phase.clone()).collect(), turns.clone(), *rounds)?;
        let rates: Vec<String> = built.iter().map(|built| format!("{:?}", built.phase.rates)).collect();
        let key = fingerprint(&(key, format!("{turns:?} {rounds} {rates:?}")));
        let until = self.until(1);
        let ready = Ready { name, game, batch, learning_rate: *learning_rate, bytes, until, key };
        let (seed, stage) = (self.context.seed, *stage);
        let mut feed = |Move { phase, number }| {
            let place = u64::try_from(phase).unwrap_or(u64::MAX);
            built[phase].feeds(seed, stage ^ place.wrapping_mul(OF_PHASE), number)
        };
        self.play_ready(ready, solved, &mut feed)
    }

    /// Runs all steps of a descent that starts from `solved`. A dry run makes no steps; it checks only the checkpoint of the first descent, since later ones
    /// start from results that it lacks.
    ///
    /// # Errors
    /// When inputs cannot be generated, a file cannot be written, a checkpoint belongs to another run, or the engine
    /// fails.
    pub fn descend(
        &mut self,
        planned: &Planned,
        step: &TrainingStep,
        solved: &Solved,
        feed: &mut dyn FnMut(u64) -> Result<Vec<Tensor>>,
    ) -> Result<(Played, DescentReport)> {
        let Planned { name, steps, batch, learning_rate, schedule, until, key } = planned;
        let game = Game::of_step(step, LearningRate::new(*learning_rate, schedule.clone()), *steps);
        let key = fingerprint(&(steps, learning_rate, schedule, key));
        let (batch, learning_rate, until) = (*batch, *learning_rate, *until);
        let ready = Ready { name, game, batch, learning_rate, bytes: step.peak_bytes(), until, key };
        self.play_ready(ready, solved, &mut |made| feed(made.number))
    }

    fn play_ready(
        &mut self,
        ready: Ready,
        solved: &Solved,
        feed: &mut dyn FnMut(Move) -> Result<Vec<Tensor>>,
    ) -> Result<(Played, DescentReport)> {
        let Ready { name, game, batch, learning_rate, bytes, until, key } = ready;
        // Computing the key hashes all weights, so skip it without a checkpoint folder.
        let checkpoints = match &self.run.settings.folder {
            Some(_) => self.run.checkpoints(name, batch, &(self.key(solved), start_of(&game, solved), key))?,
            None => None,
        };
        let played = if self.run.dry_run {
            let is_known = std::mem::replace(&mut self.is_start_known, false);
            checkpoints.as_ref().filter(|_| is_known).map(Checkpoints::found).transpose()?;
            let histories = game.phases().iter().map(|_| History::default()).collect();
            Played { state: game.state().to_vec(), histories, resumed: 0, rollbacks: Vec::new() }
        } else {
            let options = PlayOptions { stage: name.to_owned(), checkpoints, until };
            play(&game, self.context.engine, &options, feed, self.observer)?
        };
        let report = DescentReport {
            name: name.to_owned(),
            steps: if self.run.dry_run { 0 } else { played.steps() },
            planned_steps: game.steps(),
            batch,
            learning_rate,
            step_bytes: bytes,
            resumed_at: played.resumed,
            rollbacks: played.rollbacks.clone(),
            losses: played.losses(),
        };
        Ok((played, report))
    }
}

/// Returns the digest of a game's starting point: its state, and the current grids and integers.
fn start_of(game: &Game, solved: &Solved) -> String {
    let Solution { activations, weights, .. } = &solved.solution;
    let grids = activations.iter().chain(weights.iter().map(|weight| &weight.grid));
    let scales = fingerprint(&grids.map(|grid| &grid.scale).collect::<Vec<_>>());
    let state = game.state().iter().map(|(_, start)| &start.bytes()[..]);
    sha256(state.chain(weights.iter().map(|weight| &weight.bytes[..])).chain([scales.as_bytes()]))
}
