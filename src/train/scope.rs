//! A phase under construction: its state, its feeds, and the loss of each learner.

use std::cell::RefCell;

use rand_chacha::ChaCha8Rng;

use super::{Buffer, LearningRate, Optimiser, Phase, Player, StepParts, TrainedVector, step_rng, training_step};
use crate::error::{Error, Result};
use crate::expr::{Builder, Expr, Lowering};
use crate::ir::{DType, Tensor};

/// Something that is trained: vectors of the state by name.
pub trait Learner {
    /// Returns its vectors, by names that no other learner of the game has.
    fn vectors(&self) -> Vec<(String, &TrainedVector)>;
}

/// Returns tensors to feed in a step, of the phase's own number. The random numbers depend only on seed, stage, phase and
/// step, so that a resumed run draws the same.
type Draw = Box<dyn FnMut(&mut ChaCha8Rng, u64) -> Result<Vec<Tensor>>>;

/// A tensor that is fed.
#[derive(Clone, Debug)]
pub struct Feed {
    /// Its name.
    pub name: String,
    /// Its type.
    pub dtype: DType,
    /// Its shape.
    pub shape: Vec<usize>,
}

/// One phase of a game while its graph is built.
pub struct Scope<'b> {
    builder: &'b Builder,
    batch: usize,
    parts: RefCell<Parts<'b>>,
}

#[derive(Default)]
struct Parts<'b> {
    vectors: Vec<(String, Expr<'b>, TrainedVector)>,
    buffers: Vec<(String, Buffer<'b>)>,
    players: Vec<Descending<'b>>,
    watched: Option<Expr<'b>>,
    terms: Vec<(&'static str, Expr<'b>)>,
    draws: Vec<Draw>,
}

/// A learner with its loss.
struct Descending<'b> {
    vectors: Vec<String>,
    loss: Expr<'b>,
    optimiser: Optimiser,
    rate: LearningRate,
}

impl<'b> Scope<'b> {
    /// Returns the builder of the graph.
    pub fn builder(&self) -> &'b Builder {
        self.builder
    }

    /// Returns the number of samples of a step.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Returns a vector of the state, `[n]`, that begins as `vector`. Learners of one name share it.
    pub fn vector(&self, name: &str, vector: &TrainedVector) -> Expr<'b> {
        let known = self.parts.borrow().vectors.iter().find(|known| known.0 == name).map(|known| known.1);
        known.unwrap_or_else(|| {
            let input = self.builder.input(name, DType::F32, &[vector.layout.len()]);
            self.parts.borrow_mut().vectors.push((name.to_owned(), input, vector.clone()));
            input
        })
    }

    /// Returns an entry of the state without gradient, such as a moving average, that begins as `start`.
    pub fn buffer(&self, name: &str, start: Tensor) -> Expr<'b> {
        let known = self.parts.borrow().buffers.iter().find(|known| known.0 == name).map(|known| known.1.input);
        known.unwrap_or_else(|| {
            let input = self.builder.input(name, start.dtype(), start.shape());
            self.parts.borrow_mut().buffers.push((name.to_owned(), Buffer { input, start, next: None }));
            input
        })
    }

    /// Sets the value of a buffer after the step.
    pub fn set(&self, buffer: Expr<'b>, next: Expr<'b>) {
        let mut parts = self.parts.borrow_mut();
        if let Some((_, found)) = parts.buffers.iter_mut().find(|(_, found)| found.input.id() == buffer.id()) {
            found.next = Some(next.stop_gradient());
        }
    }

    /// Returns tensors that are fed in every step, as `draw` returns them.
    pub fn feeds(
        &self,
        feeds: &[Feed],
        draw: impl FnMut(&mut ChaCha8Rng, u64) -> Result<Vec<Tensor>> + 'static,
    ) -> Vec<Expr<'b>> {
        self.parts.borrow_mut().draws.push(Box::new(draw));
        feeds.iter().map(|feed| self.builder.input(&feed.name, feed.dtype, &feed.shape)).collect()
    }

    /// Trains `learner` to minimize `loss`, a scalar.
    pub fn descend(&self, learner: &dyn Learner, loss: Expr<'b>, optimiser: Optimiser, rate: LearningRate) {
        let vectors = learner.vectors();
        vectors.iter().for_each(|(name, vector)| {
            self.vector(name, vector);
        });
        let vectors = vectors.into_iter().map(|(name, _)| name).collect();
        self.parts.borrow_mut().players.push(Descending { vectors, loss, optimiser, rate });
    }

    /// Monitors `loss`, added to earlier ones, in place of the sum of the minimized losses, which may rise where two
    /// learners are adversaries.
    pub fn watch(&self, loss: Expr<'b>) {
        let before = self.parts.borrow().watched;
        self.parts.borrow_mut().watched = Some(before.map_or(loss, |sum| sum + loss));
    }

    /// Records a term of the loss under a name.
    pub fn term(&self, name: &'static str, term: Expr<'b>) {
        self.parts.borrow_mut().terms.push((name, term));
    }

    fn finish(self, name: &str, lowering: &Lowering) -> Result<BuiltPhase> {
        let Parts { vectors, buffers, players, watched, terms, draws } = self.parts.into_inner();
        let Some(watched) = watched.or_else(|| players.iter().map(|p| p.loss).reduce(|sum, next| sum + next)) else {
            return Err(Error::Plan(format!("nothing is trained in the phase \"{name}\"")));
        };
        let find = |wanted: &String| vectors.iter().find(|(name, ..)| name == wanted);
        let trained: Vec<Vec<(Expr, &TrainedVector)>> = players
            .iter()
            .map(|player| player.vectors.iter().filter_map(find).map(|(_, input, vector)| (*input, vector)).collect())
            .collect();
        let is_trained = |name: &String| players.iter().any(|player| player.vectors.contains(name));
        let only_read = vectors.iter().filter(|(name, ..)| !is_trained(name));
        let only_read = only_read.map(|(_, input, vector)| Buffer { input: *input, start: vector.start(), next: None });
        let buffers: Vec<Buffer> = only_read.chain(buffers.into_iter().map(|(_, buffer)| buffer)).collect();
        let descending: Vec<Player> = players
            .iter()
            .zip(&trained)
            .map(|(player, vectors)| Player { loss: player.loss, vectors, optimiser: player.optimiser })
            .collect();
        let parts = StepParts { prefix: name, buffers: &buffers, ..StepParts::of(&descending, watched, &terms) };
        let step = training_step(&parts, lowering)?;
        let rates = players.into_iter().map(|player| player.rate).collect();
        Ok(BuiltPhase { phase: Phase { name: name.to_owned(), step, rates }, draws })
    }
}

/// Describes a phase to a scope.
type Build<'a> = dyn for<'b> Fn(&Scope<'b>) -> Result<()> + 'a;

/// A phase of a game, to be built for a batch size.
pub struct PhaseSpec<'a> {
    /// Its name, unique in the game; empty for the only one.
    pub name: &'static str,
    build: Box<Build<'a>>,
}

/// A phase that is built, and how its feeds are drawn.
pub struct BuiltPhase {
    /// The phase.
    pub phase: Phase,
    draws: Vec<Draw>,
}

impl<'a> PhaseSpec<'a> {
    /// Returns the phase that `build` describes.
    pub fn new(name: &'static str, build: impl for<'b> Fn(&Scope<'b>) -> Result<()> + 'a) -> Self {
        Self { name, build: Box::new(build) }
    }

    /// Returns the phase for steps on `batch` samples.
    ///
    /// # Errors
    /// What its description returns; an operator without gradient, by node.
    pub fn built(&self, batch: usize, lowering: &Lowering) -> Result<BuiltPhase> {
        let builder = Builder::new(if self.name.is_empty() { "training_step" } else { self.name });
        let scope = Scope { builder: &builder, batch, parts: RefCell::default() };
        (self.build)(&scope)?;
        scope.finish(self.name, lowering)
    }
}

impl BuiltPhase {
    /// Returns the feeds of step `number` of this phase before the learning rates, for a seed and a stage.
    ///
    /// # Errors
    /// When inputs cannot be generated.
    pub fn feeds(&mut self, seed: u64, stage: u64, number: u64) -> Result<Vec<Tensor>> {
        let mut rng = step_rng(seed, stage, number);
        let mut feeds = Vec::new();
        for draw in &mut self.draws {
            feeds.extend(draw(&mut rng, number)?);
        }
        Ok(feeds)
    }
}
