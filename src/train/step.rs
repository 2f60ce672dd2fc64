//! A training step as a graph: forward pass, loss, backward pass and optimizer.

use super::{Optimiser, TrainedVector};
use crate::autodiff::gradients;
use crate::error::{Error, Result};
use crate::expr::{Builder, Expr, Lowering};
use crate::ir::{DType, Graph, Tensor, ValueId};

/// A training step, ready to load.
#[derive(Clone, Debug)]
pub struct TrainingStep {
    /// The graph. Its first inputs are the state and its outputs the next state; the other inputs are fed, the
    /// optimizer's rates last.
    pub graph: Graph,
    /// The initial state by name: vectors, moments, then the last losses.
    pub state: Vec<(String, Tensor)>,
    /// The optimizer, whose rates are fed.
    pub optimiser: Optimiser,
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
}

/// Returns the step in which `optimiser` minimizes the loss of each of `players`, with one elementwise update per
/// vector. Its state keeps the last `losses` values of `watched`, the newest last, each followed by its `terms`.
/// `watched` is the loss to monitor; it is recorded as NaN where the step makes a vector or a moment non-finite, so
/// that those need no check of their own. The graph is lowered by `lowering`.
///
/// # Errors
/// An operator without gradient rule, by name and model node; the first error of the builder.
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
    // The feeds keep their order: those of the loss, then the rates.
    graph.inputs.splice(0..0, state);
    let state = made.into_iter().map(|(name, start, ..)| (name, start)).collect();
    let terms = terms.iter().map(|term| term.0).collect();
    Ok(TrainingStep { graph, state, optimiser, losses, terms })
}

/// Returns 0 where every next value of the state is finite, else NaN: the sum minus itself.
#[allow(clippy::eq_op)]
fn unless_finite<'b>(builder: &'b Builder, made: &[(String, Tensor, Expr<'b>, Expr<'b>)]) -> Expr<'b> {
    let sums = made.iter().map(|(.., next)| next.sum(&[], false));
    let sum = sums.fold(builder.scalar(0.0), |sum, next| sum + next);
    sum - sum
}

impl TrainingStep {
    /// Returns the index of the recorded losses in the state.
    pub fn place_of_losses(&self) -> usize {
        self.state.len() - 1
    }

    /// Returns the index of an entry of the state.
    ///
    /// # Errors
    /// When there is no entry of this name.
    pub fn place(&self, name: &str) -> Result<usize> {
        let found = self.state.iter().position(|entry| entry.0 == name);
        found.ok_or_else(|| Error::shape("state", format!("has no entry \"{name}\"")))
    }
}
