//! The inputs of calibration.

use crate::error::Result;
use crate::ir::{Graph, Tensor};
use crate::runtime::{Engine, first_samples};
use crate::stats::{BatchNorm, InputStatistics};

/// Statistics of a float network and of its inputs, and the engine that runs it. None of it is user data unless inputs
/// were handed over.
#[derive(Clone, Copy)]
pub struct CalibrationContext<'a> {
    /// Batch-normalization statistics, read before folding; empty where the exporter folded them away.
    pub norms: &'a [BatchNorm],
    /// The known or assumed statistics of the network's input.
    pub input: &'a InputStatistics,
    /// Inputs synthesized for the network or handed over, one tensor per network input; none where neither was
    /// requested.
    pub images: Option<&'a [Tensor]>,
    /// The engine that runs float graphs.
    pub engine: &'a dyn Engine,
    /// The seed of all random numbers.
    pub seed: u64,
    /// The number of threads; results do not depend on it.
    pub threads: usize,
}

impl CalibrationContext<'_> {
    /// Returns up to `samples` inputs for `graph`: the first of `images`, else dead leaves.
    ///
    /// # Errors
    /// When an input's shape is unknown.
    pub fn inputs(&self, graph: &Graph, samples: usize) -> Result<Vec<Tensor>> {
        match self.images {
            Some(images) => first_samples(graph, images, samples),
            None => self.input.synthetic(graph, samples, self.seed, self.threads),
        }
    }
}
