//! Inputs that steps are fed with: made once, picked anew for each step.

use bytes::BytesMut;
use rand::seq::index;

use super::chance::chance;
use crate::error::{Error, Result};
use crate::ir::Tensor;

/// Inputs for all steps of a stage.
#[derive(Clone, Debug)]
pub struct Pool {
    inputs: Vec<Tensor>,
    samples: usize,
    batch: usize,
    seed: u64,
    stage: u64,
}

impl Pool {
    /// Returns a pool of `inputs` (one tensor for each input of the network, samples first) that deals out batches of
    /// `batch`. `stage` keeps stages of one seed apart.
    ///
    /// # Errors
    /// [`Error::Shape`] when an input holds another number of samples than the others, or fewer than a batch.
    pub fn new(inputs: Vec<Tensor>, batch: usize, seed: u64, stage: u64) -> Result<Self> {
        let samples = inputs.first().and_then(|tensor| tensor.shape().first()).copied().unwrap_or(0);
        for (i, tensor) in inputs.iter().enumerate() {
            if tensor.shape().first() != Some(&samples) || samples < batch {
                let message =
                    format!("expected {samples} samples, at least a batch of {batch}, found {:?}", tensor.shape());
                return Err(Error::shape(format!("input {i} of the training"), message));
            }
        }
        Ok(Self { inputs, samples, batch, seed, stage })
    }

    /// Returns the inputs of `step`: samples picked without repeats by ChaCha keyed with seed, stage and step.
    ///
    /// # Errors
    /// When an input has elements of less than a byte.
    pub fn batch(&self, step: u64) -> Result<Vec<Tensor>> {
        let picked = index::sample(&mut chance(self.seed, self.stage, step), self.samples, self.batch);
        self.inputs.iter().map(|tensor| rows(tensor, &picked.iter().collect::<Vec<usize>>())).collect()
    }
}

fn rows(tensor: &Tensor, picked: &[usize]) -> Result<Tensor> {
    let samples = tensor.shape().first().copied().unwrap_or(0).max(1);
    let row = tensor.bytes().len() / samples;
    let mut bytes = BytesMut::with_capacity(row * picked.len());
    picked.iter().for_each(|&i| bytes.extend_from_slice(&tensor.bytes()[i * row..(i + 1) * row]));
    let shape = [&[picked.len()], &tensor.shape()[1..]].concat();
    Tensor::new(tensor.dtype(), shape, bytes.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_gets_the_same_samples_again_and_another_step_others() {
        let values: Vec<f32> = (0..20u8).map(f32::from).collect();
        let inputs =
            vec![Tensor::from_f32(&[10, 2], &values), Tensor::from_i64(&[10], &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9])];
        let pool = Pool::new(inputs.clone(), 4, 7, 0).unwrap();
        let made = pool.batch(3).unwrap();
        assert_eq!(made, pool.batch(3).unwrap());
        let picked = made[1].to_i64().unwrap();
        let mut distinct = picked.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), 4, "a sample was picked twice: {picked:?}");
        #[allow(clippy::cast_precision_loss)]
        let expected: Vec<f32> = picked.iter().flat_map(|&i| [2.0 * i as f32, 2.0 * i as f32 + 1.0]).collect();
        assert_eq!(made[0].to_f32().unwrap(), expected, "inputs are picked alike");
        let others = [pool.batch(4), Pool::new(inputs.clone(), 4, 8, 0).unwrap().batch(3)];
        let stages = Pool::new(inputs.clone(), 4, 7, 1).unwrap().batch(3);
        assert!(others.into_iter().chain([stages]).all(|other| other.unwrap() != made));
        assert!(Pool::new(inputs, 11, 7, 0).unwrap_err().to_string().contains("at least a batch of 11"));
    }
}
