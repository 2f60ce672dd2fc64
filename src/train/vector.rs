//! The trained tensors of a network as one vector.

use super::Parameters;
use crate::error::{Error, Result};
use crate::ir::Tensor;

/// Tensors in one vector, their initial values, and a learning-rate factor per element.
#[derive(Clone, Debug, Default)]
pub struct TrainedVector {
    /// The layout of the tensors.
    pub layout: Parameters,
    start: Vec<f32>,
    lr_scales: Vec<f32>,
}

impl TrainedVector {
    /// Appends a tensor and returns its index. `lr_scales`: the learning-rate factor of each element, which is how far
    /// a step of Adam at a learning rate of 1 moves it.
    ///
    /// # Errors
    /// As [`Parameters::add`].
    pub fn add(&mut self, name: &str, shape: &[usize], start: &[f32], lr_scales: &[f32]) -> Result<usize> {
        self.layout.add(name, shape)?;
        self.start.extend(start);
        self.lr_scales.extend(lr_scales);
        Ok(self.layout.entries().len() - 1)
    }

    /// Sets other initial values, `[n]`.
    ///
    /// # Errors
    /// [`Error::Shape`] for another length.
    pub fn begin_with(&mut self, values: &Tensor) -> Result<()> {
        if values.shape() != [self.start.len()] {
            let message = format!("expected [{}], found {:?}", self.start.len(), values.shape());
            return Err(Error::shape("what is trained", message));
        }
        self.start = values.to_f32()?;
        Ok(())
    }

    /// Sets the learning-rate factor of all elements.
    pub fn set_lr_scale(&mut self, scale: f32) {
        self.lr_scales.fill(scale);
    }

    /// Returns the initial vector, `[n]`.
    pub fn start(&self) -> Tensor {
        Tensor::from_f32(&[self.start.len()], &self.start)
    }

    /// Returns the learning-rate factors, `[n]`.
    pub fn lr_scales(&self) -> Tensor {
        Tensor::from_f32(&[self.lr_scales.len()], &self.lr_scales)
    }
}
