//! Inputs that the user hands over for ranges and training. Labels beside them are not read.

use std::path::Path;

use super::{Dataset, Preprocess};
use crate::error::{Error, Result};
use crate::ir::{Graph, Tensor};
use crate::stats::InputStatistics;

/// Samples of which one is held out.
const FEWEST: usize = 2;

/// Returns the inputs of `graph` in the file at `path`, one tensor for each, samples first: arrays of the names of its
/// inputs (what `synth` writes) as they are, else images, made inputs by `preprocess` (see [`super::Feeds`]).
///
/// # Errors
/// When the file cannot be read, or its arrays have not the shape, the type, the number of samples or the scale that the
/// network is fed.
pub fn given_inputs(path: &Path, graph: &Graph, preprocess: &Preprocess, fed: &InputStatistics) -> Result<Vec<Tensor>> {
    let feeds = Dataset::read(path)?.feeds(graph, preprocess)?;
    let inputs = feeds.all()?;
    let samples = |tensor: &Tensor| tensor.shape().first().copied().unwrap_or(0);
    let counts: Vec<usize> = inputs.iter().map(samples).collect();
    if counts.iter().any(|&count| count != counts[0] || count < FEWEST) {
        let message = format!("expected as many samples of every input, at least {FEWEST}, found {counts:?}");
        return Err(Error::malformed(feeds.place(), message));
    }
    // Where what the network is fed is a guess, inputs that were handed over outrank it.
    match super::scale::mismatch(feeds.place(), &inputs, fed)? {
        Some(message) if !fed.source.is_guess() => Err(Error::Usage(message)),
        _ => Ok(inputs),
    }
}
