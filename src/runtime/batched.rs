//! Runs more samples than a model's batch.

use crate::error::{Error, Result};
use crate::ir::{Dim, Graph, Tensor, ValueId};

use super::Session;

/// Runs `inputs` (samples along axis 0) in pieces of the graph's fixed batch, or at once if the batch is open, and
/// returns the outputs concatenated along axis 0.
///
/// # Errors
/// When the samples do not divide into runs, or the engine fails.
pub fn run_in_batches(session: &mut dyn Session, graph: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
    let taken = rows_of_a_run(graph);
    let mut runs = None;
    for ((tensor, rows), id) in inputs.iter().zip(&taken).zip(graph.fed_inputs()) {
        let (Some(&given), Some(rows)) = (tensor.shape().first(), rows) else { continue };
        if !given.is_multiple_of(*rows) || runs.is_some_and(|runs| runs != given / rows) {
            let message = format!("{given} rows do not divide into the model's runs, each of {rows}");
            return Err(Error::shape(format!("input \"{}\"", graph.name_of(id)), message));
        }
        runs = Some(given / rows);
    }
    let Some(runs) = runs.filter(|&runs| runs != 1) else { return session.run(inputs) };
    let fed = (0..runs).map(|run| rows_of_run(inputs, &taken, run)).collect::<Result<Vec<_>>>()?;
    let made = session.run_each(&fed)?;
    let outputs = made.first().map_or(0, Vec::len);
    (0..outputs).map(|i| Tensor::joined(&made.iter().map(|p| &p[i]).collect::<Vec<_>>())).collect()
}

/// Returns the rows along axis 0 that a run takes of each input (of [`Graph::fed_inputs`]): 1 where the axis is open
/// but other inputs have a fixed one; `None` if all are open, and for scalars, which every run takes whole.
pub fn rows_of_a_run(graph: &Graph) -> Vec<Option<usize>> {
    let is_fixed = graph.fixed_batch().is_some();
    let first = |id: &ValueId| match graph.value(*id).shape.as_ref()?.first()? {
        Dim::Known(n) => Some(*n).filter(|&n| n > 0),
        _ => is_fixed.then_some(1),
    };
    graph.fed_inputs().iter().map(first).collect()
}

/// Returns the first `samples` of `inputs`, rounded up to whole runs, or all if there are fewer.
///
/// # Errors
/// When rows do not begin at whole bytes.
pub fn first_samples(graph: &Graph, inputs: &[Tensor], samples: usize) -> Result<Vec<Tensor>> {
    let taken = rows_of_a_run(graph);
    let runs = samples.div_ceil(graph.fixed_batch().unwrap_or(1).max(1));
    let one = |(tensor, rows): (&Tensor, &Option<usize>)| match tensor.shape().first() {
        Some(&all) => tensor.rows(0..rows.map_or(samples, |rows| runs * rows).min(all)),
        None => Ok(tensor.clone()),
    };
    inputs.iter().zip(&taken).map(one).collect()
}

/// Checks that each input has one row per sample, as training requires.
///
/// # Errors
/// [`Error::Unsupported`] naming an input whose first axis differs from that of the previous input.
pub fn refuse_states(graph: &Graph) -> Result<()> {
    let taken = rows_of_a_run(graph);
    let Some(at) = taken.iter().skip(1).position(|rows| *rows != taken[0]) else { return Ok(()) };
    let place = format!("input \"{}\"", graph.name_of(graph.fed_inputs()[at + 1]));
    Err(Error::unsupported(place, "its first axis is not the sample axis, as training requires; use --effort fast"))
}

/// Returns the rows of `inputs` for the run of this number, by [`rows_of_a_run`].
///
/// # Errors
/// When `inputs` have fewer runs.
pub fn rows_of_run(inputs: &[Tensor], taken: &[Option<usize>], run: usize) -> Result<Vec<Tensor>> {
    let one = |(tensor, rows): (&Tensor, &Option<usize>)| match rows {
        Some(rows) => tensor.rows(run * rows..(run + 1) * rows),
        None => Ok(tensor.clone()),
    };
    inputs.iter().zip(taken).map(one).collect()
}
