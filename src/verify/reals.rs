//! The float values before each quantizer, computed by the reference from given integers.

use std::collections::HashMap;

use super::compare::numbers;
use super::integers::Observed;
use super::modes::Mode;
use super::structure::Quantizer;
use super::tap::{cut, tap};
use crate::error::Result;
use crate::ir::{DType, Graph, Tensor, ValueId};
use crate::shape;

/// The reference's values before quantizers, batch by batch, computed on request.
pub struct Reals<'a> {
    graph: &'a Graph,
    quantizers: &'a [Quantizer],
    mode: &'a Mode<'a>,
    observed: &'a [Observed],
    known: HashMap<usize, Vec<Vec<f32>>>,
}

impl<'a> Reals<'a> {
    /// Returns an empty set for `graph` in the reference `mode`.
    pub fn new(graph: &'a Graph, quantizers: &'a [Quantizer], mode: &'a Mode<'a>, observed: &'a [Observed]) -> Self {
        Self { graph, quantizers, mode, observed, known: HashMap::new() }
    }

    /// Computes the values before the quantizers with these indices.
    ///
    /// # Errors
    /// When the engine refuses the graph with those tensors as outputs.
    pub fn compute(&mut self, wanted: &[usize]) -> Result<()> {
        let missing: Vec<usize> = wanted.iter().copied().filter(|i| !self.known.contains_key(i)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let mut cut = cut(self.graph, self.quantizers).graph;
        cut.outputs.clear();
        let facts = shape::facts(self.graph).unwrap_or_default();
        let dtype = |id: ValueId| facts.get(id.index()).and_then(|fact| fact.dtype).unwrap_or(DType::F32);
        let inputs = missing.iter().map(|&i| self.quantizers[i].input);
        let (mut tapped, sources) = tap(&cut, &inputs.map(|id| (id, dtype(id))).collect::<Vec<_>>());
        tapped.sweep();
        let mut session = self.mode.load(&tapped)?;
        let fed: Vec<Vec<Tensor>> = self.observed.iter().map(Observed::fed).collect();
        let made = session.run_each(&fed)?;
        for (i, source) in missing.into_iter().zip(sources) {
            let batches = fed.iter().zip(&made).map(|(fed, made)| numbers(source.pick(fed, made)));
            self.known.insert(i, batches.collect());
        }
        Ok(())
    }

    /// Returns the values before quantizer `index` in a batch, if computed.
    pub fn of(&self, index: usize, batch: usize) -> Option<&[f32]> {
        self.known.get(&index)?.get(batch).map(Vec::as_slice)
    }
}
