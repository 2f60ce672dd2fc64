//! Plays games with the run's checkpoints, deadline and observer, and reports them.

use std::time::Instant;

use super::Lab;
use crate::digest::sha256;
use crate::error::Result;
use crate::expr::STANDARD;
use crate::ir::Tensor;
use crate::solution::{Solution, Solved};
use crate::train::{
    BuiltPhase, Checkpoints, DescentReport, Footprint, Game, History, Move, PhaseSpec, PlayOptions, Played, Turn,
    fingerprint, fitting_batch, play,
};

/// Separates the random numbers of the phases of a stage.
const OF_PHASE: u64 = 0x9e37_79b9_7f4a_7c15;

/// Samples per step where nothing else is said: twice the batch for half the steps measured worse.
const BATCH: usize = 32;

/// A game by the descriptions of its phases, which are built for the batch size that fits.
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
    /// Samples per step, where neither the user nor the model nor the memory determines them.
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

/// A game that is ready to be played, with the settings of its report and checkpoint.
pub struct PreparedGame<'a> {
    /// Its name and that of its checkpoint.
    pub name: &'a str,
    /// The game.
    pub game: Game,
    /// Samples per step.
    pub batch: usize,
    /// The learning rate to report.
    pub learning_rate: f64,
    /// The deadline at which it ends early.
    pub until: Option<Instant>,
    /// The fingerprint of everything its steps depend on besides the run, the start, the inputs and the schedule.
    pub key: String,
}

impl Lab<'_> {
    /// Builds the phases of a game that starts from `solved` and plays all its rounds.
    ///
    /// # Errors
    /// As [`Lab::play_prepared`], and where a phase cannot be built.
    pub fn play(&mut self, plan: &GamePlan, solved: &Solved) -> Result<(Played, DescentReport)> {
        let GamePlan { name, phases, .. } = plan;
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
        let game = built.iter().map(|built| built.phase.clone()).collect();
        let game = Game::new(game, plan.turns.clone(), plan.rounds)?;
        let (learning_rate, until, key) = (plan.learning_rate, self.until(1), plan.key.clone());
        let prepared = PreparedGame { name, game, batch, learning_rate, until, key };
        let (seed, stage) = (self.context.seed, plan.stage);
        let mut feed = |Move { phase, number }| {
            let place = u64::try_from(phase).unwrap_or(u64::MAX);
            built[phase].feeds(seed, stage ^ place.wrapping_mul(OF_PHASE), number)
        };
        self.play_prepared(&prepared, solved, &mut feed)
    }

    /// Plays a game that starts from `solved`; `feed` returns the feeds of a step before the learning rates. A dry run
    /// makes no steps; it checks only the checkpoint of the first game, since later ones start from results that it
    /// lacks.
    ///
    /// # Errors
    /// When inputs cannot be generated, a file cannot be written, a checkpoint belongs to another run, or the engine
    /// fails.
    pub fn play_prepared(
        &mut self,
        prepared: &PreparedGame,
        solved: &Solved,
        feed: &mut dyn FnMut(Move) -> Result<Vec<Tensor>>,
    ) -> Result<(Played, DescentReport)> {
        let PreparedGame { name, game, batch, learning_rate, until, key } = prepared;
        // Computing the key hashes all weights, so skip it without a checkpoint folder.
        let checkpoints = match &self.run.settings.folder {
            Some(_) => {
                let key = fingerprint(&(key, game.schedule()));
                self.run.checkpoints(name, *batch, &(self.key(solved), start_of(game, solved), key))?
            }
            None => None,
        };
        let played = if self.run.dry_run {
            let is_known = std::mem::replace(&mut self.is_start_known, false);
            checkpoints.as_ref().filter(|_| is_known).map(Checkpoints::found).transpose()?;
            let histories = game.phases().iter().map(|_| History::default()).collect();
            Played { state: game.state().to_vec(), histories, resumed: 0, rollbacks: Vec::new() }
        } else {
            let options = PlayOptions { stage: (*name).to_owned(), checkpoints, until: *until };
            play(game, self.context.engine, &options, feed, self.observer)?
        };
        let report = DescentReport {
            name: (*name).to_owned(),
            steps: if self.run.dry_run { 0 } else { played.steps() },
            planned_steps: game.steps(),
            batch: *batch,
            learning_rate: *learning_rate,
            step_bytes: game.phases().iter().map(|phase| phase.step.peak_bytes()).sum(),
            resumed_at: played.resumed,
            rollbacks: played.rollbacks.clone(),
            losses: played.losses(),
            disagreement: None,
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
