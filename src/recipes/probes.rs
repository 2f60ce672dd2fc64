//! Probes: inputs that a recipe's steps are checked on, of other kinds than the calibration inputs.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::calibrate::CalibrationContext;
use crate::error::Result;
use crate::ir::{Graph, Tensor};
use crate::plan::total_macs;

/// Multiply-accumulates for the samples of one kind, and the resulting number of samples at least and at most.
const MACS: u64 = 1_000_000_000;
const SAMPLES: (usize, usize) = (2, 16);
/// Separates these inputs from the calibration inputs.
const SEED: u64 = 0x7072_6f62_6573;
/// The contrast of pale inputs relative to plain ones.
const PALE: f32 = 0.5;

/// Samples of one kind.
#[derive(Debug)]
pub(super) struct Probe {
    pub kind: &'static str,
    /// One tensor per network input.
    pub inputs: Vec<Tensor>,
}

/// Returns inputs of `graph` of every applicable kind: further inputs of the calibration kind, the same with less
/// contrast, and the same with shuffled elements, so that neighbors are uncorrelated. All stay within the interval of
/// the network's input.
///
/// # Errors
/// When an input's shape is unknown.
pub(super) fn probes(graph: &Graph, context: &CalibrationContext) -> Result<Vec<Probe>> {
    let affordable = usize::try_from(MACS / total_macs(graph).max(1)).unwrap_or(usize::MAX);
    let samples = affordable.clamp(SAMPLES.0, SAMPLES.1).next_multiple_of(graph.fixed_batch().unwrap_or(1).max(1));
    let inputs = match context.images {
        Some(images) => images.iter().map(|tensor| last(tensor, samples)).collect::<Result<_>>()?,
        None => context.input.synthetic(graph, samples, context.seed ^ SEED, context.threads)?,
    };
    let changed = |change: &mut dyn FnMut(&mut [f32], usize)| -> Result<Vec<Tensor>> {
        inputs.iter().map(|tensor| changed(tensor, change)).collect()
    };
    let mut rng = ChaCha8Rng::seed_from_u64(context.seed ^ SEED);
    let pale = changed(&mut |sample, _| fade(sample))?;
    let shuffled = changed(&mut |sample, planes| shuffle(sample, planes, &mut rng))?;
    let others = [("pale", pale), ("shuffled", shuffled)].into_iter().filter(|(_, others)| *others != inputs);
    let others: Vec<Probe> = others.map(|(kind, inputs)| Probe { kind, inputs }).collect();
    Ok([Probe { kind: "plain", inputs }].into_iter().chain(others).collect())
}

/// Returns the first samples of each kind, about `most` in all; all of them where `graph` has a fixed batch size.
///
/// # Errors
/// When a tensor cannot be cut.
pub(super) fn some(graph: &Graph, probes: &[Probe], most: usize) -> Result<Vec<Vec<Tensor>>> {
    let of_each = (most / probes.len().max(1)).max(1);
    let cut = |tensor: &Tensor| match graph.fixed_batch() {
        Some(_) => Ok(tensor.clone()),
        None => tensor.rows(0..of_each.min(tensor.shape().first().copied().unwrap_or(0))),
    };
    probes.iter().map(|probe| probe.inputs.iter().map(cut).collect()).collect()
}

/// Returns the last `samples` rows.
fn last(tensor: &Tensor, samples: usize) -> Result<Tensor> {
    let all = tensor.shape().first().copied().unwrap_or(1);
    tensor.rows(all.saturating_sub(samples)..all)
}

/// Returns a float tensor with every sample changed; other tensors unchanged. `change` also receives the number of
/// planes of a sample.
fn changed(tensor: &Tensor, change: &mut dyn FnMut(&mut [f32], usize)) -> Result<Tensor> {
    let shape = tensor.shape();
    if !tensor.dtype().is_float() || shape.len() < 2 || tensor.is_empty() {
        return Ok(tensor.clone());
    }
    let mut values = tensor.to_f32()?;
    let planes = if shape.len() > 2 { shape[1] } else { 1 };
    values.chunks_mut(shape[1..].iter().product()).for_each(|sample| change(sample, planes));
    Tensor::from_floats(tensor.dtype(), shape, &values)
}

fn fade(sample: &mut [f32]) {
    let mean = sample.iter().sum::<f32>() / sample.len() as f32;
    sample.iter_mut().for_each(|v| *v = mean + PALE * (*v - mean));
}

/// Applies one permutation to the elements of every plane.
fn shuffle(sample: &mut [f32], planes: usize, rng: &mut ChaCha8Rng) {
    let size = sample.len() / planes;
    let mut order: Vec<usize> = (0..size).collect();
    order.shuffle(rng);
    for plane in sample.chunks_mut(size) {
        let before = plane.to_vec();
        plane.iter_mut().zip(&order).for_each(|(v, &from)| *v = before[from]);
    }
}
