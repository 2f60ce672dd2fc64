//! The distance between a student and its teacher.

use super::Target;
use super::losses::{divergence, relative_mse_of_both};
use crate::error::{Error, Result};
use crate::expr::{Expr, Inlined};
use crate::ir::{DType, Graph};

/// A network as expressions.
#[derive(Clone, Copy, Debug)]
pub struct Network<'a, 'b> {
    /// The original graph.
    pub graph: &'a Graph,
    /// Its expressions.
    pub inlined: &'a Inlined<'b>,
}

impl<'b> Network<'_, 'b> {
    /// Returns a tensor by name.
    ///
    /// # Errors
    /// When the network computes no tensor of this name.
    pub fn tensor(&self, name: &str) -> Result<Expr<'b>> {
        let found = self.graph.find(name).and_then(|id| self.inlined.tensors.get(&id).copied());
        found.ok_or_else(|| Error::Plan(format!("tensor \"{name}\" is computed by one network and not by the other")))
    }

    /// Returns a target of logits as `[N, classes]`.
    ///
    /// # Errors
    /// As [`Network::tensor`].
    pub fn logits(&self, target: &Target) -> Result<Expr<'b>> {
        let logits = self.tensor(&target.tensor)?.cast(DType::F32);
        let flat: Vec<usize> = logits.shape().into_iter().take(2).collect();
        Ok(logits.reshape(&flat))
    }
}

/// Returns the distance to minimize, summed over all targets: for logits the KL divergence of class probabilities at
/// `temperature` ([`kl_logits`](super::losses::kl_logits)), for other targets the squared error relative to the
/// teacher's squares.
///
/// # Errors
/// When one of the networks does not compute a target; [`Error::Unsupported`] without targets.
pub fn distance<'b>(
    targets: &[Target],
    teacher: Network<'_, 'b>,
    student: Network<'_, 'b>,
    temperature: f32,
) -> Result<Expr<'b>> {
    summed(targets, teacher, student, temperature, Expr::stop_gradient)
}

/// Returns [`distance`] with gradients through the teacher's outputs too, for any target: used to find inputs on which
/// the two networks differ.
///
/// # Errors
/// As [`distance`].
pub fn adversarial_distance<'b>(
    targets: &[Target],
    teacher: Network<'_, 'b>,
    student: Network<'_, 'b>,
    temperature: f32,
) -> Result<Expr<'b>> {
    summed(targets, teacher, student, temperature, |answer| answer)
}

fn summed<'b>(
    targets: &[Target],
    teacher: Network<'_, 'b>,
    student: Network<'_, 'b>,
    temperature: f32,
    answer: fn(Expr<'b>) -> Expr<'b>,
) -> Result<Expr<'b>> {
    let one = |target: &Target| -> Result<Expr<'b>> {
        if target.is_logits {
            return Ok(divergence(answer(teacher.logits(target)?), student.logits(target)?, temperature));
        }
        let tensor = |network: Network<'_, 'b>| Ok::<_, Error>(network.tensor(&target.tensor)?.cast(DType::F32));
        Ok(relative_mse_of_both(answer(tensor(teacher)?), tensor(student)?))
    };
    let each = targets.iter().map(one).collect::<Result<Vec<_>>>()?;
    each.into_iter().reduce(|sum, next| sum + next).ok_or_else(|| {
        Error::unsupported("model", "has no floating-point output to train on; use a recipe without training")
    })
}
