//! A training step as a graph: forward pass, loss, backward pass and optimizer.

use super::{Optimiser, TrainedVector};
use crate::autodiff::gradients;
use crate::error::Result;
use crate::expr::{Builder, Expr, Lowering};
use crate::ir::{DType, Graph, Tensor, ValueId};

/// A training step, ready to load.
#[derive(Clone, Debug)]
pub struct TrainingStep {
    /// The graph. It reads entries of the state by their names and updates them by its outputs `ENTRY.next`; its other
    /// inputs are fed, the optimizers' rates last.
    pub graph: Graph,
    /// The entries of the state that it reads or updates, with their initial values: vectors and moments, what is only
    /// read, buffers, then the last losses.
    pub state: Vec<(String, Tensor)>,
    /// The optimizer of each player, whose rates are fed.
    pub optimisers: Vec<Optimiser>,
    /// The number of steps whose losses the state keeps.
    pub losses: usize,
    /// The names of the loss terms, which the state keeps beside the loss.
    pub terms: Vec<&'static str>,
}

/// Vectors and the loss that they minimize. All players of a step are updated at once, each by its own loss.
#[derive(Clone, Copy, Debug)]
pub struct Player<'a, 'b> {
    /// The loss, a scalar.
    pub loss: Expr<'b>,
    /// The trained inputs and their vectors.
    pub vectors: &'a [(Expr<'b>, &'a TrainedVector)],
    /// The update rule.
    pub optimiser: Optimiser,
}

/// An entry of the state: an input, its initial value, and its value one step on; none where the step only reads it. Given
/// by a caller it has no gradient, such as a moving average.
#[derive(Clone, Debug)]
pub struct Buffer<'b> {
    /// The input.
    pub input: Expr<'b>,
    /// Its initial value.
    pub start: Tensor,
    /// Its next value, of the same type and shape.
    pub next: Option<Expr<'b>>,
}

/// The parts of a training step.
#[derive(Clone, Debug)]
pub struct StepParts<'a, 'b> {
    /// What the names of moments and losses in the state begin with, followed by a slash: the name of the phase, where
    /// several share a state; empty for none.
    pub prefix: &'a str,
    /// The trained players.
    pub players: &'a [Player<'a, 'b>],
    /// Entries of the state without gradient.
    pub buffers: &'a [Buffer<'b>],
    /// The loss to monitor. It is recorded as NaN where the step makes an entry of the state non-finite, so that those
    /// need no check of their own.
    pub watched: Expr<'b>,
    /// Terms of the loss to record beside it, by name.
    pub terms: &'a [(&'static str, Expr<'b>)],
    /// The number of steps whose losses the state keeps, the newest last.
    pub losses: usize,
}

impl<'a, 'b> StepParts<'a, 'b> {
    /// The default number of steps whose losses the state keeps.
    pub const LOSSES: usize = 20;

    /// Returns the parts of the only phase of a game, without buffers.
    pub fn of(players: &'a [Player<'a, 'b>], watched: Expr<'b>, terms: &'a [(&'static str, Expr<'b>)]) -> Self {
        Self { prefix: "", players, buffers: &[], watched, terms, losses: Self::LOSSES }
    }
}

/// Returns the step in which every player minimizes its loss, with one elementwise update per vector. The graph is
/// lowered by `lowering`.
///
/// # Errors
/// An operator without gradient rule, by name and model node; the first error of the builder.
pub fn training_step(parts: &StepParts, lowering: &Lowering) -> Result<TrainingStep> {
    let builder = parts.watched.builder();
    let named = |name: &str| if parts.prefix.is_empty() { name.to_owned() } else { format!("{}/{name}", parts.prefix) };
    // All gradients are of the state before the step.
    let mut gradients_of = Vec::with_capacity(parts.players.len());
    for player in parts.players {
        let inputs: Vec<Expr> = player.vectors.iter().map(|vector| vector.0).collect();
        gradients_of.push(gradients(player.loss, &inputs)?);
    }
    let optimisers: Vec<Optimiser> = parts.players.iter().map(|player| player.optimiser).collect();
    let counts: Vec<usize> = optimisers.iter().map(Optimiser::rate_count).collect();
    let rates = builder.input("rates", DType::F32, &[counts.iter().sum()]);
    let rates = if counts.len() == 1 { vec![rates] } else { rates.split(0, &counts) };
    let mut entries: Vec<Buffer> = Vec::new();
    for ((player, found), rates) in parts.players.iter().zip(gradients_of).zip(rates) {
        for (&(input, vector), gradient) in player.vectors.iter().zip(found) {
            let (name, shape) = (input.name(), input.shape());
            let moment = |i: usize| builder.input(&named(&format!("{name}.moment{}", i + 1)), DType::F32, &shape);
            let moments: Vec<Expr> = (0..player.optimiser.moments()).map(moment).collect();
            let mask = builder.constant("mask", vector.lr_scales());
            let (next, next_moments) = player.optimiser.update(input, gradient, &moments, rates, mask);
            entries.push(Buffer { input, start: vector.start(), next: Some(next) });
            let zeros = Tensor::from_f32(&shape, &vec![0.0; input.len()]);
            let moments = moments.into_iter().zip(next_moments);
            entries.extend(moments.map(|(input, next)| Buffer { input, start: zeros.clone(), next: Some(next) }));
        }
    }
    entries.extend(parts.buffers.iter().cloned());
    let width = 1 + parts.terms.len();
    let ring = builder.input(&named("losses"), DType::F32, &[parts.losses, width]);
    let watched = parts.watched + unless_finite(builder, &entries);
    let newest: Vec<Expr> = std::iter::once(watched).chain(parts.terms.iter().map(|term| term.1)).collect();
    let newest: Vec<Expr> = newest.into_iter().map(|one| one.reshape(&[1, 1])).collect();
    let next = ring.slice(0, 1..parts.losses).concat(&[newest[0].concat(&newest[1..], 1)], 0);
    let start = Tensor::from_f32(&[parts.losses, width], &vec![0.0; parts.losses * width]);
    entries.push(Buffer { input: ring, start, next: Some(next) });
    let updated = entries.iter().filter_map(|entry| Some((format!("{}.next", entry.input.name()), entry.next?)));
    let updated: Vec<(String, Expr)> = updated.collect();
    let outputs: Vec<(&str, Expr)> = updated.iter().map(|(name, next)| (name.as_str(), *next)).collect();
    let mut graph = builder.finish_by(lowering, &outputs)?;
    let state: Vec<(String, Tensor)> = entries.into_iter().map(|entry| (entry.input.name(), entry.start)).collect();
    let ids: Vec<ValueId> = state.iter().filter_map(|(name, _)| graph.find(name)).collect();
    graph.inputs.retain(|id| !ids.contains(id));
    // The feeds keep their order: those of the loss, then the rates.
    graph.inputs.splice(0..0, ids);
    let terms = parts.terms.iter().map(|term| term.0).collect();
    Ok(TrainingStep { graph, state, optimisers, losses: parts.losses, terms })
}

/// Returns 0 where every next value of the state is finite, else NaN: the sum minus itself.
#[allow(clippy::eq_op)]
fn unless_finite<'b>(builder: &'b Builder, entries: &[Buffer<'b>]) -> Expr<'b> {
    let sums = entries.iter().filter_map(|entry| Some(entry.next?.sum(&[], false)));
    let sum = sums.fold(builder.scalar(0.0), |sum, next| sum + next);
    sum - sum
}

impl TrainingStep {
    /// Returns the name of the recorded losses in the state.
    pub fn losses_entry(&self) -> &str {
        self.state.last().map_or("", |(name, _)| name)
    }

    /// Returns the feed of the optimizers' rates for the learning rate of each player, in the step after `done` others.
    pub fn rates(&self, learning_rates: &[f64], done: u64) -> Tensor {
        let pairs = self.optimisers.iter().zip(learning_rates);
        let rates: Vec<f32> = pairs.flat_map(|(optimiser, &rate)| optimiser.rates(rate, done)).collect();
        Tensor::from_f32(&[rates.len()], &rates)
    }
}
