//! Input statistics from the user's own inputs.

use super::{InputScale, InputSource, InputStatistics, is_network_input};
use crate::data::image_channels;
use crate::error::Result;
use crate::ir::{Graph, Tensor};

impl InputStatistics {
    /// Returns the statistics of those `inputs` of `graph` (one tensor per input) that [`InputStatistics`] describe;
    /// `None` if there is no such input.
    ///
    /// # Errors
    /// When values cannot be read as floats.
    pub fn of_data(graph: &Graph, inputs: &[Tensor]) -> Result<Option<Self>> {
        let fed = graph.fed_inputs();
        let mut described = fed.iter().zip(inputs).filter(|&(&id, _)| is_network_input(graph, id));
        let Some((&id, tensor)) = described.next() else { return Ok(None) };
        let shape = graph.value(id).shape.as_deref().unwrap_or_default();
        let axis = image_channels(shape).filter(|&axis| axis < tensor.shape().len());
        let inner: usize = tensor.shape().iter().skip(axis.map_or(usize::MAX, |axis| axis + 1)).product();
        let mut channels = vec![Spread::default(); axis.map_or(1, |axis| tensor.shape()[axis]).max(1)];
        let count = channels.len();
        for (i, value) in tensor.to_f32()?.into_iter().enumerate() {
            channels[i / inner.max(1) % count].add(f64::from(value));
        }
        let mut all = channels.iter().fold(Spread::default(), Spread::joined);
        for (_, tensor) in described {
            tensor.to_f32()?.into_iter().for_each(|value| all.add(f64::from(value)));
        }
        let (mean, std) = channels.iter().map(Spread::moments).unzip();
        let Spread { lo, hi, .. } = all;
        Ok(Some(Self { mean, std, lo, hi, scale: InputScale::Custom, source: InputSource::Data }))
    }
}

/// Sums and bounds of the values of one channel.
#[derive(Clone, Copy)]
struct Spread {
    count: f64,
    sum: f64,
    squares: f64,
    lo: f64,
    hi: f64,
}

impl Default for Spread {
    fn default() -> Self {
        Self { count: 0.0, sum: 0.0, squares: 0.0, lo: f64::INFINITY, hi: f64::NEG_INFINITY }
    }
}

impl Spread {
    fn add(&mut self, value: f64) {
        *self = self.joined(&Self { count: 1.0, sum: value, squares: value * value, lo: value, hi: value });
    }

    fn joined(self, other: &Self) -> Self {
        Self {
            count: self.count + other.count,
            sum: self.sum + other.sum,
            squares: self.squares + other.squares,
            lo: self.lo.min(other.lo),
            hi: self.hi.max(other.hi),
        }
    }

    fn moments(&self) -> (f64, f64) {
        let mean = self.sum / self.count.max(1.0);
        (mean, (self.squares / self.count.max(1.0) - mean * mean).max(0.0).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{DType, Dim};

    #[test]
    fn channels_of_images_have_their_own_moments_and_share_an_interval() {
        let mut graph = Graph::default();
        let x = graph.add_value("x");
        graph.value_mut(x).dtype = Some(DType::F32);
        graph.value_mut(x).shape = Some([2, 2, 1, 2].map(Dim::Known).to_vec());
        graph.inputs.push(x);
        let images = Tensor::from_f32(&[2, 2, 1, 2], &[1.0, 3.0, 10.0, 10.0, 1.0, 3.0, 10.0, 30.0]);
        let found = InputStatistics::of_data(&graph, &[images]).unwrap().unwrap();
        assert_eq!((found.lo, found.hi, found.source), (1.0, 30.0, InputSource::Data));
        assert_eq!((&found.mean[..], found.std[0]), (&[2.0, 15.0][..], 1.0));
        assert!((found.std[1] - 75f64.sqrt()).abs() < 1e-9, "{:?}", found.std);
    }
}
