//! The history of losses: the total loss and its terms at every step.

use crate::error::{Error, Result};
use crate::ir::Tensor;

/// The name of the total loss.
pub const LOSS: &str = "loss";

/// The losses of all steps, stored step by step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    names: Vec<String>,
    values: Vec<f32>,
}

impl History {
    /// Returns an empty history of a loss with these terms. Their names stand behind that of the `phase`, if it has one.
    pub fn new(phase: &str, terms: &[&str]) -> Self {
        let named = |name: &&str| if phase.is_empty() { (*name).to_owned() } else { format!("{phase} {name}") };
        Self { names: std::iter::once(&LOSS).chain(terms).map(named).collect(), values: Vec::new() }
    }

    /// Returns the name of the loss, followed by those of its terms.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// Returns the number of recorded steps.
    pub fn steps(&self) -> u64 {
        (self.values.len() / self.names.len().max(1)) as u64
    }

    /// Returns the loss of every step.
    pub fn loss(&self) -> Vec<f32> {
        self.values.iter().step_by(self.names.len().max(1)).copied().collect()
    }

    /// Returns a term (or the loss) of every step; empty for an unknown name.
    pub fn term(&self, name: &str) -> Vec<f32> {
        let place = self.names.iter().position(|known| known == name);
        let values = place.map(|place| self.values.iter().skip(place).step_by(self.names.len()));
        values.into_iter().flatten().copied().collect()
    }

    /// Returns the loss and its terms of every step, by name.
    pub fn terms(&self) -> Vec<(String, Vec<f32>)> {
        self.names().map(|name| (name.to_owned(), self.term(name))).collect()
    }

    /// Returns the losses of the latest step by name.
    pub fn last(&self) -> Vec<(&str, f32)> {
        let newest = self.values.len().saturating_sub(self.names.len());
        self.names().zip(self.values[newest..].iter().copied()).collect()
    }

    /// Appends steps.
    pub fn extend(&mut self, values: &[f32]) {
        self.values.extend(values);
    }

    /// Returns the values as `[steps, names]`.
    pub fn to_tensor(&self) -> Tensor {
        Tensor::from_f32(&[self.values.len() / self.names.len().max(1), self.names.len()], &self.values)
    }

    /// Returns the history restored from a [`History::to_tensor`] of one with the same names.
    ///
    /// # Errors
    /// [`Error::Malformed`] for another width.
    pub fn with(self, values: &Tensor) -> Result<Self> {
        match *values.shape() {
            [_, width] if width == self.names.len() => Ok(Self { values: values.to_f32()?, ..self }),
            ref other => Err(Error::malformed(
                "checkpoint",
                format!("holds losses {other:?}, expected {} a step; start anew", self.names.len()),
            )),
        }
    }
}
