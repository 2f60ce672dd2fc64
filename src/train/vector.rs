//! What is trained of a network, as one vector.

use super::Parameters;
use crate::error::{Error, Result};
use crate::ir::Tensor;

/// Tensors in one vector, what they start from, and how far the learning rate moves them.
#[derive(Clone, Debug, Default)]
pub struct TrainedVector {
    /// Which tensor lies where.
    pub layout: Parameters,
    start: Vec<f32>,
    units: Vec<f32>,
}

impl TrainedVector {
    /// Adds a tensor behind the others and returns its place. `units`, one for each element: how far a step of learning
    /// rate 1 is to move it, that is its factor of the learning rate.
    ///
    /// # Errors
    /// As [`Parameters::add`].
    pub fn add(&mut self, name: &str, shape: &[usize], start: &[f32], units: &[f32]) -> Result<usize> {
        self.layout.add(name, shape)?;
        self.start.extend(start);
        self.units.extend(units);
        Ok(self.layout.entries().len() - 1)
    }

    /// Begins with other values, `[n]`.
    ///
    /// # Errors
    /// [`Error::Shape`] for another number of them.
    pub fn begin_with(&mut self, values: &Tensor) -> Result<()> {
        if values.shape() != [self.start.len()] {
            let message = format!("expected [{}], found {:?}", self.start.len(), values.shape());
            return Err(Error::shape("what is trained", message));
        }
        self.start = values.to_f32()?;
        Ok(())
    }

    /// Moves every element as far: the same factor of the learning rate for all.
    pub fn move_alike(&mut self, unit: f32) {
        self.units.fill(unit);
    }

    /// Returns the vector that training starts from, `[n]`.
    pub fn start(&self) -> Tensor {
        Tensor::from_f32(&[self.start.len()], &self.start)
    }

    /// Returns the factors of the learning rate, `[n]`.
    pub fn units(&self) -> Tensor {
        Tensor::from_f32(&[self.units.len()], &self.units)
    }
}
