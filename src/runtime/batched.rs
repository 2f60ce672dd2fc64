//! Running more samples than a model takes at once.

use crate::error::{Error, Result};
use crate::ir::{Graph, Tensor};

use super::Session;

/// Runs `inputs` (samples along axis 0) in pieces of the batch that the graph's inputs fix, or at once where it is free,
/// and returns the outputs joined along axis 0.
///
/// # Errors
/// When the number of samples is no multiple of a fixed batch, or the engine fails.
pub fn run_in_batches(session: &mut dyn Session, graph: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
    let samples = inputs.first().and_then(|t| t.shape().first()).copied().unwrap_or(1);
    let Some(batch) = graph.fixed_batch().filter(|&n| n != samples && n > 0) else { return session.run(inputs) };
    if !samples.is_multiple_of(batch) {
        return Err(Error::shape(
            "batch",
            format!("{samples} samples do not divide into the model's batch of {batch}"),
        ));
    }
    let piece = |start: usize| inputs.iter().map(|t| t.rows(start..start + batch)).collect::<Result<_>>();
    let pieces = (0..samples).step_by(batch).map(piece).collect::<Result<Vec<_>>>()?;
    let pieces = session.run_each(&pieces)?;
    let outputs = pieces.first().map_or(0, Vec::len);
    (0..outputs).map(|i| Tensor::joined(&pieces.iter().map(|p| &p[i]).collect::<Vec<_>>())).collect()
}
