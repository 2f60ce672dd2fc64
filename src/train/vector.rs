//! What is trained of a network, as one vector.

use super::Parameters;
use crate::error::{Error, Result};
use crate::ir::Tensor;

/// Tensors in one vector, what they start from, and the scale of the learning rate of each element.
#[derive(Clone, Debug, Default)]
pub struct TrainedVector {
    /// Which tensor lies where.
    pub layout: Parameters,
    start: Vec<f32>,
    lr_scales: Vec<f32>,
}

impl TrainedVector {
    /// Adds a tensor behind the others and returns its place. `lr_scales`: the factor of the learning rate of each element,
    /// which is how far a step of Adam at a learning rate of 1 moves it.
    ///
    /// # Errors
    /// As [`Parameters::add`].
    pub fn add(&mut self, name: &str, shape: &[usize], start: &[f32], lr_scales: &[f32]) -> Result<usize> {
        self.layout.add(name, shape)?;
        self.start.extend(start);
        self.lr_scales.extend(lr_scales);
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

    /// Sets the factor of the learning rate of all elements.
    pub fn set_lr_scale(&mut self, scale: f32) {
        self.lr_scales.fill(scale);
    }

    /// Returns the vector that training starts from, `[n]`.
    pub fn start(&self) -> Tensor {
        Tensor::from_f32(&[self.start.len()], &self.start)
    }

    /// Returns the factors of the learning rate, `[n]`.
    pub fn lr_scales(&self) -> Tensor {
        Tensor::from_f32(&[self.lr_scales.len()], &self.lr_scales)
    }
}
