//! Runs of graphs on many samples, a chunk at a time.

use crate::error::Result;
use crate::ir::{Graph, Tensor};
use crate::runtime::{Engine, SessionOptions};

/// Samples per run, where the graph does not fix its batch.
const CHUNK: usize = 32;

/// Returns the number of samples per run of `graph`.
pub fn chunk_of(graph: &Graph, samples: usize) -> usize {
    graph.fixed_batch().unwrap_or(CHUNK).min(samples).max(1)
}

/// Returns the single output of `graph` on all samples of `inputs`, `chunk` at a time, after the `fixed` inputs.
///
/// # Errors
/// When the engine fails, or a tensor has fewer samples than the others.
pub fn run_in_chunks(
    engine: &dyn Engine,
    graph: &Graph,
    fixed: &[Tensor],
    inputs: &[Tensor],
    chunk: usize,
) -> Result<Tensor> {
    let samples = Tensor::samples_of(inputs);
    let mut session = engine.load(graph, &SessionOptions::default())?;
    let mut parts = Vec::new();
    for start in (0..samples).step_by(chunk) {
        // The last chunk overlaps the one before where the sample count is no multiple of `chunk`.
        let first = start.min(samples - chunk);
        let rows = inputs.iter().map(|tensor| tensor.rows(first..first + chunk)).collect::<Result<Vec<_>>>()?;
        let made = session.run(&[fixed, &rows].concat())?;
        parts.push(made[0].rows(start - first..chunk)?);
    }
    Tensor::joined(&parts.iter().collect::<Vec<_>>())
}
