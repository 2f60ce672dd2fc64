//! The float original in several runtimes: what their float arithmetic differs by where nothing is quantized.

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

/// Samples that the float model runs on, where its batch is free.
const SAMPLES: usize = 2;

/// The float model, a few inputs, and the tensors of it that quantizers round.
pub struct FloatRun<'a> {
    original: Cow<'a, Graph>,
    inputs: Vec<Tensor>,
}

impl<'a> FloatRun<'a> {
    /// Returns that of `original` on the first samples of `batch`, which is in the order of `quantized`'s inputs.
    pub fn new(original: &'a Graph, quantized: &Graph, batch: &[Tensor]) -> Self {
        Self { original: Cow::Borrowed(original), inputs: few(original, own_inputs(original, quantized, batch)) }
    }

    /// Returns the same without what exporters leave behind and in float32, which is what quantized models are made of;
    /// none where it cannot be made.
    pub fn normalised(&self, mode: &Mode) -> Option<FloatRun<'static>> {
        let mut graph = self.graph().clone();
        passes::normalise(&mut graph, mode.engine()).ok()?;
        Some(FloatRun { original: Cow::Owned(graph), inputs: self.inputs.clone() })
    }

    /// Returns the graph.
    pub fn graph(&self) -> &Graph {
        &self.original
    }

    /// Checks that `mode` runs the model: what is made of it has no better chance there.
    ///
    /// # Errors
    /// What its engine says.
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

    /// Returns what `mode` makes of `tensors`.
    ///
    /// # Errors
    /// When its engine cannot run the graph.
    pub fn tensors(&self, mode: &Mode, tensors: &[(ValueId, DType)]) -> Result<Vec<Tensor>> {
        let (tapped, sources) = tap(&*mode.readable(&self.original)?, tensors);
        let made = mode.load(&tapped)?.run(&self.inputs)?;
        Ok(sources.iter().map(|source| source.pick(&self.inputs, &made).clone()).collect())
    }

    /// Returns by how much two modes may differ in each of `tensors`: some times the largest difference there.
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

/// Returns the first samples of `inputs`, all of them where the model says how many it takes.
fn few(original: &Graph, inputs: Vec<Tensor>) -> Vec<Tensor> {
    let samples = Tensor::samples_of(&inputs);
    let alike = inputs.iter().all(|t| t.shape().first() == Some(&samples));
    if original.fixed_batch().is_some() || !alike {
        return inputs;
    }
    let first: Result<Vec<Tensor>> = inputs.iter().map(|t| t.rows(0..samples.min(SAMPLES))).collect();
    first.unwrap_or(inputs)
}
