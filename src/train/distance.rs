//! How far a student is from its teacher.

use super::Target;
use super::losses::{kl_logits, relative_square};
use crate::error::{Error, Result};
use crate::expr::{Expr, Inlined};
use crate::ir::{DType, Graph};

/// A network as expressions.
#[derive(Clone, Copy, Debug)]
pub struct Network<'a, 'b> {
    /// The graph that it was.
    pub graph: &'a Graph,
    /// What that became.
    pub inlined: &'a Inlined<'b>,
}

impl<'b> Network<'_, 'b> {
    /// Returns a tensor by name.
    ///
    /// # Errors
    /// When the network computes none of this name.
    pub fn tensor(&self, name: &str) -> Result<Expr<'b>> {
        let found = self.graph.find(name).and_then(|id| self.inlined.tensors.get(&id).copied());
        found.ok_or_else(|| Error::Plan(format!("tensor \"{name}\" is computed by one network and not by the other")))
    }
}

/// Returns the distance to descend: over all targets, the divergence of class probabilities at `temperature`
/// ([`kl_logits`]), and of what holds no class scores the squared error relative to the teacher's squares.
///
/// # Errors
/// When one of them does not compute a target; [`Error::Unsupported`] without targets.
pub fn distance<'b>(
    targets: &[Target],
    (teacher, student): (Network<'_, 'b>, Network<'_, 'b>),
    temperature: f32,
) -> Result<Expr<'b>> {
    let one = |target: &Target| -> Result<Expr<'b>> {
        let tensor = |network: Network<'_, 'b>| Ok::<_, Error>(network.tensor(&target.tensor)?.cast(DType::F32));
        let (teacher, student) = (tensor(teacher)?, tensor(student)?);
        if !target.holds_scores {
            return Ok(relative_square(teacher, student));
        }
        let flat: Vec<usize> = teacher.shape().into_iter().take(2).collect();
        Ok(kl_logits(teacher.reshape(&flat), student.reshape(&flat), temperature))
    };
    let each = targets.iter().map(one).collect::<Result<Vec<_>>>()?;
    each.into_iter().reduce(|sum, next| sum + next).ok_or_else(|| {
        Error::unsupported(
            "model",
            "has no output of floating-point numbers to train for; use a recipe without training",
        )
    })
}
