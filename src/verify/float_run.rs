//! The float original in several runtimes: the differences of their float arithmetic without quantization.

use std::borrow::Cow;
use std::collections::HashMap;

use super::compare::numbers;
use super::limits;
use super::matches::own_inputs;
use super::modes::Mode;
use super::tap::tap;
use crate::error::{Error, Result};
use crate::ir::{DType, Graph, Tensor, ValueId};
use crate::{passes, shape};

/// Samples of the float model, if its batch is open.
const SAMPLES: usize = 2;

/// The float model, a few inputs, and the tensors that quantizers round.
pub struct FloatRun<'a> {
    original: Cow<'a, Graph>,
    inputs: Vec<Tensor>,
}

impl<'a> FloatRun<'a> {
    /// Returns the run of `original` on the first samples of `batch`, whose tensors are in the order of `quantized`'s
    /// inputs.
    pub fn new(original: &'a Graph, quantized: &Graph, batch: &[Tensor]) -> Self {
        Self { original: Cow::Borrowed(original), inputs: few(original, own_inputs(original, quantized, batch)) }
    }

    /// Returns the same for the normalized float32 graph, from which quantized models are built; `None` where
    /// normalization fails.
    pub fn normalised(&self, mode: &Mode) -> Option<FloatRun<'static>> {
        let mut graph = self.graph().clone();
        passes::normalise(&mut graph, mode.engine()).ok()?;
        Some(FloatRun { original: Cow::Owned(graph), inputs: self.inputs.clone() })
    }

    /// Returns the graph.
    pub fn graph(&self) -> &Graph {
        &self.original
    }

    /// Checks that `mode` runs the float model.
    ///
    /// # Errors
    /// The error of its engine.
    pub fn runs_in(&self, mode: &Mode) -> Result<()> {
        let told = |error: Error| match error {
            Error::Runtime { engine, message } => {
                Error::Runtime { engine, message: format!("the float model: {message}") }
            }
            other => other,
        };
        mode.load(&*mode.readable(&self.original)?).and_then(|mut session| session.run(&self.inputs)).map_err(told)?;
        Ok(())
    }

    /// Returns the values of `tensors` in `mode`.
    ///
    /// # Errors
    /// When its engine cannot run the graph.
    pub fn tensors(&self, mode: &Mode, tensors: &[(ValueId, DType)]) -> Result<Vec<Tensor>> {
        let (tapped, sources) = tap(&*mode.readable(&self.original)?, tensors);
        let made = mode.load(&tapped)?.run(&self.inputs)?;
        Ok(sources.iter().map(|source| source.pick(&self.inputs, &made).clone()).collect())
    }

    /// Returns the tolerated difference of two modes in each of `tensors`: a multiple of the largest difference there.
    ///
    /// # Errors
    /// When one of them cannot run the graph with these as outputs.
    pub fn noise(&self, modes: [&Mode; 2], tensors: &[ValueId]) -> Result<HashMap<ValueId, f64>> {
        let facts = shape::facts(&self.original).unwrap_or_default();
        let dtype = |id: ValueId| facts.get(id.index()).and_then(|fact| fact.dtype).unwrap_or(DType::F32);
        let taps: Vec<_> = tensors.iter().map(|&id| (id, dtype(id))).collect();
        let [a, b] = modes.map(|mode| self.tensors(mode, &taps));
        let largest = |(a, b): (&Tensor, &Tensor)| {
            let pairs = numbers(a).into_iter().zip(numbers(b));
            pairs.map(|(a, b)| f64::from((a - b).abs())).filter(|d| d.is_finite()).fold(0.0, f64::max)
        };
        let noise = a?.iter().zip(&b?).map(|pair| limits::FLOAT_NOISE * largest(pair)).collect::<Vec<f64>>();
        Ok(tensors.iter().copied().zip(noise).collect())
    }
}

/// Returns the first samples of `inputs`, or all of them for a fixed batch.
fn few(original: &Graph, inputs: Vec<Tensor>) -> Vec<Tensor> {
    let samples = Tensor::samples_of(&inputs);
    let alike = inputs.iter().all(|t| t.shape().first() == Some(&samples));
    if original.fixed_batch().is_some() || !alike {
        return inputs;
    }
    let first: Result<Vec<Tensor>> = inputs.iter().map(|t| t.rows(0..samples.min(SAMPLES))).collect();
    first.unwrap_or(inputs)
}
