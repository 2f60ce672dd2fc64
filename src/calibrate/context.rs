//! What calibration may draw on.

use crate::error::Result;
use crate::ir::{Graph, Tensor};
use crate::runtime::{Engine, first_samples};
use crate::stats::{BatchNorm, InputStatistics};

/// What is known of a float network and of its inputs, and what runs it. None of it is data of the user's unless inputs
/// were handed over.
#[derive(Clone, Copy)]
pub struct CalibrationContext<'a> {
    /// Batch-normalisation statistics, read before folding; empty where the exporter folded them away.
    pub norms: &'a [BatchNorm],
    /// What is known or assumed of the network's input.
    pub input: &'a InputStatistics,
    /// Inputs that were made for the network or handed over, one tensor for each input; none where nobody asked for them.
    pub images: Option<&'a [Tensor]>,
    /// Runs float graphs.
    pub engine: &'a dyn Engine,
    /// Everything random follows from it.
    pub seed: u64,
    /// Threads to work with; results do not depend on it.
    pub threads: usize,
}

impl CalibrationContext<'_> {
    /// Returns up to `samples` inputs for `graph`: the first of those that were made for it, else dead leaves.
    ///
    /// # Errors
    /// When an input's shape is not known.
    pub fn inputs(&self, graph: &Graph, samples: usize) -> Result<Vec<Tensor>> {
        match self.images {
            Some(images) => first_samples(graph, images, samples),
            None => self.input.synthetic(graph, samples, self.seed, self.threads),
        }
    }
}
