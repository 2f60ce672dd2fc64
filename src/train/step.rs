//! A training step as a graph: forward, loss, backward and optimiser.

use super::{Optimiser, TrainedVector};
use crate::autodiff::gradients;
use crate::error::{Error, Result};
use crate::expr::{Builder, Expr, Lowering};
use crate::ir::{DType, Graph, Tensor, ValueId};

/// A training step, ready to be loaded.
#[derive(Clone, Debug)]
pub struct TrainingStep {
    /// Its first inputs are the state, its outputs the state one step on; the other inputs are fed, the optimiser's
    /// rates last.
    pub graph: Graph,
    /// The state before the first step by name: vectors, moments, then the last losses.
    pub state: Vec<(String, Tensor)>,
    /// The optimiser, whose rates are fed.
    pub optimiser: Optimiser,
    /// Steps whose losses the state keeps.
    pub losses: usize,
    /// The names of the loss's terms, which the state keeps beside it.
    pub terms: Vec<&'static str>,
}

/// What some vectors descend. Players of one step move at once, each down a loss of its own.
#[derive(Clone, Copy, Debug)]
pub struct Player<'a, 'b> {
    /// The loss, a number.
    pub loss: Expr<'b>,
    /// Inputs, and what they start from.
    pub vectors: &'a [(Expr<'b>, &'a TrainedVector)],
}

/// Returns the step in which each of `players` descends its loss by `optimiser`, one elementwise update for each vector,
/// and which keeps the last `losses` values of `watched` in its state, the newest last, each with its `terms` behind it.
/// `watched` tells whether the step goes well; it is kept as NaN where the step leaves a vector or a moment that is not
/// finite, so that nobody has to look at those. The graph is as `lowering` writes it.
///
/// # Errors
/// An operator without gradient rule, named, with the model's node; the first mistake in what was built.
pub fn training_step<'b>(
    players: &[Player<'_, 'b>],
    (watched, terms): (Expr<'b>, &[(&'static str, Expr<'b>)]),
    (optimiser, losses): (Optimiser, usize),
    lowering: &Lowering,
) -> Result<TrainingStep> {
    let builder = watched.builder();
    let mut found = Vec::new();
    for player in players {
        let inputs: Vec<Expr> = player.vectors.iter().map(|vector| vector.0).collect();
        found.extend(gradients(player.loss, &inputs)?);
    }
    let vectors = players.iter().flat_map(|player| player.vectors);
    let rates = builder.input("rates", DType::F32, &[optimiser.rate_count()]);
    let mut made: Vec<(String, Tensor, Expr, Expr)> = Vec::new();
    for (&(input, vector), gradient) in vectors.zip(found) {
        let (name, shape) = (input.name(), input.shape());
        let moment = |i: usize| builder.input(&format!("{name}.moment{}", i + 1), DType::F32, &shape);
        let moments: Vec<Expr> = (0..optimiser.moments()).map(moment).collect();
        let mask = builder.constant("mask", vector.lr_scales());
        let (next, next_moments) = optimiser.update(input, gradient, &moments, rates, mask);
        made.push((name, vector.start(), input, next));
        let zeros = Tensor::from_f32(&shape, &vec![0.0; input.len()]);
        made.extend(moments.into_iter().zip(next_moments).map(|(m, next)| (m.name(), zeros.clone(), m, next)));
    }
    let width = 1 + terms.len();
    let ring = builder.input("losses", DType::F32, &[losses, width]);
    let watched = watched + unless_finite(builder, &made);
    let newest: Vec<Expr> = std::iter::once(watched).chain(terms.iter().map(|term| term.1)).collect();
    let newest: Vec<Expr> = newest.into_iter().map(|one| one.reshape(&[1, 1])).collect();
    let next = ring.slice(0, 1..losses).concat(&[newest[0].concat(&newest[1..], 1)], 0);
    made.push((ring.name(), Tensor::from_f32(&[losses, width], &vec![0.0; losses * width]), ring, next));
    let names: Vec<String> = made.iter().map(|(name, ..)| format!("{name}.next")).collect();
    let outputs: Vec<(&str, Expr)> = names.iter().zip(&made).map(|(name, (.., next))| (name.as_str(), *next)).collect();
    let mut graph = builder.finish_by(lowering, &outputs)?;
    let state: Vec<ValueId> = made.iter().filter_map(|(name, ..)| graph.find(name)).collect();
    graph.inputs.retain(|id| !state.contains(id));
    // Feeds keep their order, in which the rates come behind what the loss reads.
    graph.inputs.splice(0..0, state);
    let state = made.into_iter().map(|(name, start, ..)| (name, start)).collect();
    let terms = terms.iter().map(|term| term.0).collect();
    Ok(TrainingStep { graph, state, optimiser, losses, terms })
}

/// Returns 0 where every next value of the state is finite, and NaN where one is not: what a sum less itself is.
#[allow(clippy::eq_op)]
fn unless_finite<'b>(builder: &'b Builder, made: &[(String, Tensor, Expr<'b>, Expr<'b>)]) -> Expr<'b> {
    let sums = made.iter().map(|(.., next)| next.sum(&[], false));
    let sum = sums.fold(builder.scalar(0.0), |sum, next| sum + next);
    sum - sum
}

impl TrainingStep {
    /// Returns the place of the last losses in the state.
    pub fn place_of_losses(&self) -> usize {
        self.state.len() - 1
    }

    /// Returns the place of an entry of the state.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn place(&self, name: &str) -> Result<usize> {
        let found = self.state.iter().position(|entry| entry.0 == name);
        found.ok_or_else(|| Error::shape("state", format!("has no entry \"{name}\"")))
    }
}
