//! Infers types and shapes without a rule from runs of the float model.

use crate::error::Result;
use crate::ir::{Dim, Graph, Shape, Tensor, ValueId};
use crate::outputs::is_of_variable_size;
use crate::runtime::{Engine, Optimisation, SessionOptions};
use crate::shape;
use crate::stats::InputStatistics;

/// Infers the element types and ranks that no rule gives from two runs on synthetic `input`s by `engine`, and returns
/// the number of values inferred so.
///
/// A size that is the same in both runs is a number. Where the batch is open, the second run takes more samples, and a
/// size that equals their number is the batch. Sizes that depend on data stay unknown, and so does everything if inputs
/// cannot be made or the graph cannot run. Types and shapes of later values are inferred afterwards.
///
/// # Errors
/// Those of [`shape::infer`].
pub fn infer_by_running(graph: &mut Graph, input: &InputStatistics, engine: &dyn Engine, seed: u64) -> Result<usize> {
    let unknown = unknown_values(graph);
    if unknown.is_empty() {
        return Ok(0);
    }
    let counts = graph.fixed_batch().map_or([2, 3], |batch| [batch, batch]);
    let made = || -> Result<[Vec<Tensor>; 4]> {
        let first = input.synthetic(graph, counts[0], seed, 1)?;
        let second = input.synthetic(graph, counts[1], seed.wrapping_add(1), 1)?;
        let [few, more] = runs(graph, &unknown, engine, [&first, &second])?;
        Ok([first, second, few, more])
    };
    let [first, second, few, more] = match made() {
        Ok(made) => made,
        Err(error) => {
            tracing::warn!("types without an inference rule stay unknown: {error}");
            return Ok(0);
        }
    };
    let batch = Batch::of(graph, [&first, &second]);
    let with_bodies = graph.nodes.iter().filter(|node| node.bodies().next().is_some());
    let of_bodies: Vec<ValueId> = with_bodies.flat_map(|node| node.outputs.iter().flatten().copied()).collect();
    for ((&id, few), more) in unknown.iter().zip(&few).zip(&more) {
        let sizes_vary = is_of_variable_size(graph, id);
        let shape = batch.shape([few.shape(), more.shape()], sizes_vary);
        let value = graph.value_mut(id);
        value.dtype = Some(few.dtype());
        value.shape = shape.or(value.shape.take());
        // For who reads the file; what control flow makes may have another shape in another run.
        value.declared = !of_bodies.contains(&id);
    }
    shape::infer(graph)?;
    Ok(unknown.len())
}

/// Returns the node outputs of unknown element type or rank.
fn unknown_values(graph: &Graph) -> Vec<ValueId> {
    let unknown = |id: &ValueId| graph.value(*id).dtype.is_none() || graph.value(*id).shape.is_none();
    graph.nodes.iter().flat_map(|node| node.outputs.iter().flatten()).copied().filter(unknown).collect()
}

fn runs(graph: &Graph, taps: &[ValueId], engine: &dyn Engine, inputs: [&[Tensor]; 2]) -> Result<[Vec<Tensor>; 2]> {
    let mut tapped = graph.clone();
    tapped.outputs = taps.to_vec();
    for &id in taps {
        tapped.value_mut(id).declared = false;
    }
    tapped.sweep();
    let options = SessionOptions { optimisation: Optimisation::None, prepacking: false, ..SessionOptions::default() };
    let mut session = engine.load(&tapped, &options)?;
    Ok([session.run(inputs[0])?, session.run(inputs[1])?])
}

/// The numbers of samples of both runs, and the name of their axis; none where the batch is fixed.
struct Batch(Option<([usize; 2], Dim)>);

impl Batch {
    fn of(graph: &Graph, inputs: [&[Tensor]; 2]) -> Self {
        let counts = inputs.map(Tensor::samples_of);
        let fed = graph.fed_inputs();
        let first = fed.first().and_then(|&id| graph.value(id).shape.as_ref()?.first().cloned());
        Self(first.filter(|dim| dim.known().is_none() && counts[0] != counts[1]).map(|dim| (counts, dim)))
    }

    fn shape(&self, [few, more]: [&[usize]; 2], sizes_vary: bool) -> Option<Shape> {
        let one = |(&a, &b): (&usize, &usize)| match &self.0 {
            _ if sizes_vary => Dim::Unknown,
            Some((counts, batch)) if [a, b] == *counts => batch.clone(),
            _ if a == b => Dim::Known(a),
            _ => Dim::Unknown,
        };
        (few.len() == more.len()).then(|| few.iter().zip(more).map(one).collect())
    }
}
