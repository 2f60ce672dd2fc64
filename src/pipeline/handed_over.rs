//! Inputs handed over by the user, split into calibration and training inputs and held-out inputs.

use std::path::Path;

use crate::data::{Preprocess, given_inputs};
use crate::error::Result;
use crate::ir::{Graph, Tensor};
use crate::stats::InputStatistics;

/// One sample in this many is held out.
const HELD_OUT: usize = 4;

/// The inputs that were handed over; each part has one tensor per network input.
pub(super) struct HandedOver {
    /// Inputs for ranges, rounding and training.
    pub seen: Vec<Tensor>,
    /// Held-out inputs, used only to measure.
    pub held_out: Vec<Tensor>,
    /// The number of samples in the file, and of held-out ones.
    pub counts: [usize; 2],
}

impl HandedOver {
    /// Reads the inputs of `graph` in the file at `path`, without its labels. `fed` are the known input statistics;
    /// where the model has a fixed batch size, both parts are filled up to multiples of it.
    ///
    /// # Errors
    /// Those of [`given_inputs`].
    pub fn read(
        path: &Path,
        graph: &Graph,
        preprocess: &Preprocess,
        fed: &InputStatistics,
        batch: Option<usize>,
    ) -> Result<Self> {
        let inputs = given_inputs(path, graph, preprocess, fed)?;
        let samples = Tensor::samples_of(&inputs);
        let batch = batch.or(graph.fixed_batch()).unwrap_or(1).max(1);
        // The last of every four samples, or the last of fewer: both parts cover the whole file, whatever its order.
        let is_held_out = |i: &usize| i % HELD_OUT == HELD_OUT - 1 || samples < HELD_OUT && i + 1 == samples;
        let part = |held_out: bool| -> Result<Vec<Tensor>> {
            let mut rows: Vec<usize> = (0..samples).filter(|i| is_held_out(i) == held_out).collect();
            let filled = rows.len().next_multiple_of(batch);
            rows = rows.iter().copied().cycle().take(filled).collect();
            inputs.iter().map(|tensor| tensor.picked(&rows)).collect()
        };
        let counts = [samples, (0..samples).filter(is_held_out).count()];
        Ok(Self { seen: part(false)?, held_out: part(true)?, counts })
    }

    /// Returns at most `samples` of the held-out inputs.
    ///
    /// # Errors
    /// When a tensor has fewer samples than the others.
    pub fn first_held_out(&self, samples: usize) -> Result<Vec<Tensor>> {
        let samples = samples.min(Tensor::samples_of(&self.held_out));
        self.held_out.iter().map(|tensor| tensor.rows(0..samples)).collect()
    }
}
