//! The integers of every quantizer on the first samples, in the reference engine.

use super::limits;
use super::modes::Mode;
use super::structure::Quantizer;
use super::tap::tap;
use crate::error::Result;
use crate::ir::{Dim, Graph, Tensor};
use crate::outputs::settled_tensors;
use crate::shape;

/// One batch of the quantized model in the reference engine, with every quantizer's integers.
pub struct Observed {
    /// The model's inputs.
    pub inputs: Vec<Tensor>,
    /// The tensors that stand for the model's outputs (see [`settled_tensors`]).
    pub outputs: Vec<Tensor>,
    /// The integers of each quantizer.
    pub integers: Vec<Tensor>,
}

impl Observed {
    /// Returns the inputs of the cut graph (see [`super::cut`]).
    pub fn fed(&self) -> Vec<Tensor> {
        self.inputs.iter().chain(&self.integers).cloned().collect()
    }
}

/// Returns the results of the reference engine on the first samples of `batches`, in a few pieces of one size: samples
/// with [`limits::NODE_BY_NODE_INTEGERS`] integers in all, and at least [`limits::NODE_BY_NODE_SAMPLES`]. A fixed batch
/// is never split.
///
/// # Errors
/// When the engine refuses the tapped model or fails.
pub fn observe(graph: &Graph, quantizers: &[Quantizer], mode: &Mode, batches: &[Vec<Tensor>]) -> Result<Vec<Observed>> {
    let settled = settled_tensors(graph);
    let integers = quantizers.iter().map(|q| (q.integers, q.dtype));
    let (tapped, sources) = tap(graph, &settled.iter().copied().chain(integers).collect::<Vec<_>>());
    let mut session = mode.load(&tapped)?;
    let observed = |inputs: Vec<Tensor>, made: &[Tensor]| -> Observed {
        let mut outputs: Vec<Tensor> = sources.iter().map(|source| source.pick(&inputs, made).clone()).collect();
        let integers = outputs.split_off(settled.len());
        Observed { inputs, outputs, integers }
    };
    if !fixes_batch(graph) {
        let wanted = match integers_of_a_sample(graph, quantizers) {
            Some(integers) => wanted_samples(integers),
            None => {
                let first = batches[0].iter().map(|t| t.rows(0..1)).collect::<Result<Vec<_>>>()?;
                let made = session.run(&first)?;
                wanted_samples(observed(first, &made).integers.iter().map(Tensor::len).sum())
            }
        };
        let pieces = pieces(batches, wanted)?;
        let made = session.run_each(&pieces)?;
        return Ok(pieces.into_iter().zip(made).map(|(inputs, made)| observed(inputs, &made)).collect());
    }
    let (mut all, mut integers) = (Vec::new(), 0);
    for batch in batches {
        let made = session.run(batch)?;
        let found = observed(batch.clone(), &made);
        integers += found.integers.iter().map(Tensor::len).sum::<usize>();
        all.push(found);
        if integers >= limits::NODE_BY_NODE_INTEGERS {
            break;
        }
    }
    Ok(all)
}

fn wanted_samples(integers: usize) -> usize {
    (limits::NODE_BY_NODE_INTEGERS / integers.max(1)).max(limits::NODE_BY_NODE_SAMPLES)
}

/// Returns the first `wanted` samples of `batches` in pieces of a quarter, the last one filled up.
fn pieces(batches: &[Vec<Tensor>], wanted: usize) -> Result<Vec<Vec<Tensor>>> {
    let length = |batch: &[Tensor]| batch.first().and_then(|t| t.shape().first().copied()).unwrap_or(1);
    let size = wanted.min(batches.iter().map(|batch| length(batch)).sum()).div_ceil(4).max(1);
    let (mut pieces, mut samples) = (Vec::new(), 0);
    for batch in batches {
        for start in (0..length(batch)).step_by(size) {
            if samples >= wanted {
                return Ok(pieces);
            }
            let end = length(batch).min(start + size);
            pieces.push(batch.iter().map(|t| t.rows(start..end)).collect::<Result<Vec<_>>>()?);
            samples += end - start;
        }
    }
    Ok(pieces)
}

/// Returns the integers of all quantizers per sample, if their shapes are known.
fn integers_of_a_sample(graph: &Graph, quantizers: &[Quantizer]) -> Option<usize> {
    let facts = shape::facts(graph).ok()?;
    let one = |q: &Quantizer| -> Option<usize> {
        let shape = facts.get(q.integers.index())?.shape.as_ref()?;
        let (batch, sizes) = shape.split_first()?;
        batch.known().is_none().then(|| sizes.iter().map(Dim::known).product())?
    };
    quantizers.iter().map(one).sum()
}

/// Returns whether an input's first axis is not open, so that samples cannot be separated or regrouped.
fn fixes_batch(graph: &Graph) -> bool {
    graph.fed_inputs().iter().any(|&id| {
        let first = graph.value(id).shape.as_ref().and_then(|shape| shape.first());
        first.is_none_or(|dim| dim.known().is_some())
    })
}
