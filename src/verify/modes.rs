//! The engines and modes of checks, and the end-to-end comparison between them.

use std::borrow::Cow;

use super::compare::{PerSample, Top1};
use super::granularity::granularity;
use super::limits;
use super::result::Check;
use super::samples_of;
use super::shadow::shadow;
use super::tap::tap;
use crate::error::{Error, Result};
use crate::ir::{Graph, Tensor};
use crate::outputs::{compared_tensors, may_hold_scores};
use crate::runtime::{Engine, Optimisation, PIECE_BYTES, Session, SessionOptions};

/// The engines of checks, at least one of both.
#[derive(Clone, Copy, Default)]
pub struct Engines<'a> {
    /// ONNX Runtime.
    pub ort: Option<&'a dyn Engine>,
    /// tract.
    pub tract: Option<&'a dyn Engine>,
}

/// One engine in one mode.
#[derive(Clone, Copy)]
pub struct Mode<'a> {
    engine: &'a dyn Engine,
    optimisation: Optimisation,
    /// Threads of an engine that has no number of its own.
    threads: Option<usize>,
    /// Whether it needs the copy without tensors below 8 bits.
    pub reads_copy: bool,
}

impl<'a> Mode<'a> {
    /// Returns the name of this mode in results.
    pub fn name(&self) -> String {
        match (self.reads_copy, self.optimisation) {
            (false, Optimisation::None) => format!("{}, optimisation off", self.engine.name()),
            _ => self.engine.name(),
        }
    }

    /// Returns the engine.
    pub fn engine(&self) -> &'a dyn Engine {
        self.engine
    }

    /// Returns the name of the engine, whatever the mode.
    pub fn engine_name(&self) -> String {
        self.engine.name()
    }

    /// Returns whether this mode fuses operators between Q/DQ into integer kernels.
    pub fn fuses(&self) -> bool {
        !self.reads_copy && self.optimisation == Optimisation::Default
    }

    /// Returns `graph` in a form that this mode can read; a copy may be large, so drop it early.
    ///
    /// # Errors
    /// Where there is no such copy (see [`shadow`]).
    pub fn readable<'g>(&self, graph: &'g Graph) -> Result<Cow<'g, Graph>> {
        Ok(if self.reads_copy { Cow::Owned(shadow(graph)?) } else { Cow::Borrowed(graph) })
    }

    /// Returns a session for `graph`.
    ///
    /// # Errors
    /// When the engine refuses it.
    pub fn load(&self, graph: &Graph) -> Result<Box<dyn Session>> {
        // Node by node as written, a graph may as well run in pieces; what users get from their runtime may not.
        let piece_bytes = (!self.fuses()).then_some(PIECE_BYTES);
        tracing::debug!("{} loads {} nodes", self.name(), graph.nodes.len());
        let Self { optimisation, threads, .. } = *self;
        let options = SessionOptions { optimisation, threads, piece_bytes, ..SessionOptions::default() };
        self.engine.load(graph, &options)
    }

    /// Returns a session of the same engine, with its default optimisations, for the float `original`.
    ///
    /// # Errors
    /// When the engine refuses it.
    pub fn load_original(&self, original: &Graph) -> Result<Box<dyn Session>> {
        tracing::debug!("{} loads the float model, {} nodes", self.name(), original.nodes.len());
        let (piece_bytes, threads) = (Some(PIECE_BYTES), self.threads);
        self.engine.load(original, &SessionOptions { piece_bytes, threads, ..SessionOptions::default() })
    }
}

/// Returns the modes of checks, tract's with `threads`. The first is the reference: one that runs nodes as written, if
/// available.
pub fn modes<'a>(engines: &Engines<'a>, threads: usize) -> Vec<Mode<'a>> {
    let mut modes = Vec::new();
    if let Some(engine) = engines.ort {
        modes.push(Mode { engine, optimisation: Optimisation::None, threads: None, reads_copy: false });
        modes.push(Mode { engine, optimisation: Optimisation::Default, threads: None, reads_copy: false });
    }
    if let Some(engine) = engines.tract {
        let threads = Some(threads);
        modes.push(Mode { engine, optimisation: Optimisation::Default, threads, reads_copy: true });
    }
    modes
}

/// The result of [`end_to_end`].
pub struct EndToEnd<'a> {
    /// The modes that ran; the first of them is the reference.
    pub ran: Vec<Mode<'a>>,
    /// Checks that the model loads and runs, of the relative RMS of each output, and of top-1 agreement.
    pub checks: Vec<Check>,
    /// The model's outputs in the reference, batch by batch.
    pub outputs: Vec<Vec<Tensor>>,
}

/// Runs the model on every batch in every mode, one session at a time; `limit` applies to the relative RMS between
/// modes.
///
/// # Errors
/// [`Error::Resources`] when memory does not suffice, which says nothing about the model.
pub fn end_to_end<'a>(graph: &Graph, modes: &[Mode<'a>], batches: &[Vec<Tensor>], limit: f64) -> Result<EndToEnd<'a>> {
    let mut found = EndToEnd { ran: Vec::new(), checks: Vec::new(), outputs: Vec::new() };
    let mut reference: Vec<Vec<Tensor>> = Vec::new();
    for mode in modes {
        let check = |name: &str, passed, message: String| Check {
            name: name.to_owned(),
            engine: mode.name(),
            measured: None,
            limit: None,
            passed,
            message,
        };
        let ran = match run_all(graph, mode, batches) {
            Ok(ran) => ran,
            Err(error @ Error::Resources(_)) => return Err(error),
            Err(error) => {
                found.checks.push(check("loads and runs", false, error.to_string()));
                continue;
            }
        };
        found.checks.push(check("loads and runs", true, String::new()));
        match found.ran.is_empty() {
            true => (found.outputs, reference) = (ran.outputs, ran.compared),
            false => {
                let both = reference.iter().zip(&ran.compared).zip(batches.iter().map(|b| samples_of(b)));
                let pairs = both.map(|((reference, found), samples)| BatchPair { reference, found, samples });
                found.checks.extend(compare(&pairs.collect::<Vec<_>>(), graph, limit, mode));
            }
        }
        found.ran.push(*mode);
    }
    Ok(found)
}

/// Returns the end-to-end `checks`, without a limit for modes in `compared`: where engines agree node by node, the
/// remaining differences are ties, which deep networks amplify.
pub fn reported(checks: Vec<Check>, compared: &[String]) -> Vec<Check> {
    let one = |check: Check| match check.measured.is_some() && compared.contains(&check.engine) {
        true => Check { limit: None, passed: true, ..check },
        false => check,
    };
    checks.into_iter().map(one).collect()
}

/// The model's outputs and the tensors compared between runtimes, batch by batch.
struct Ran {
    outputs: Vec<Vec<Tensor>>,
    compared: Vec<Vec<Tensor>>,
}

fn run_all(graph: &Graph, mode: &Mode, batches: &[Vec<Tensor>]) -> Result<Ran> {
    let compared = compared_tensors(graph);
    let graph = mode.readable(graph)?;
    let mut session = mode.load(&graph)?;
    if compared.iter().map(|(id, _)| id).eq(&graph.outputs) {
        let outputs = session.run_each(batches)?;
        return Ok(Ran { compared: outputs.clone(), outputs });
    }
    // The file as it is runs once at least; what is compared lies before its outputs.
    session.run(&batches[0])?;
    let (tapped, sources) = tap(&graph, &compared);
    drop(session);
    let mut session = mode.load(&tapped)?;
    let mut ran = Ran { outputs: Vec::new(), compared: Vec::new() };
    for (batch, mut outputs) in batches.iter().zip(session.run_each(batches)?) {
        ran.compared.push(sources.iter().map(|source| source.pick(batch, &outputs).clone()).collect());
        outputs.truncate(graph.outputs.len());
        ran.outputs.push(outputs);
    }
    Ok(ran)
}

/// The tensors of one batch in the reference and in another mode.
struct BatchPair<'a> {
    reference: &'a [Tensor],
    found: &'a [Tensor],
    samples: usize,
}

fn compare(batches: &[BatchPair], graph: &Graph, limit: f64, mode: &Mode) -> Vec<Check> {
    let mut checks = Vec::new();
    let smallest = granularity(graph);
    for (i, (output, _)) in compared_tensors(graph).into_iter().enumerate() {
        let (mut comparison, mut top1) = (PerSample::default(), Top1::default());
        for &BatchPair { reference, found, samples } in batches {
            comparison.add(&reference[i], &found[i], samples);
            if may_hold_scores(graph, output) {
                top1.add(&reference[i], &found[i]);
            }
        }
        let name = graph.name_of(output);
        let smallest = smallest[output.index()];
        let relative = comparison.middle_relative_rms(smallest);
        let pooled = &comparison.pooled;
        checks.push(Check {
            name: "end to end: relative RMS".to_owned(),
            engine: mode.name(),
            measured: Some(relative),
            limit: Some(limit),
            passed: relative <= limit,
            message: format!(
                "\"{name}\": relative RMS {relative:.2e} in the middle sample, {:.2e} over all, largest difference {:.2e}",
                pooled.relative_rms_above(smallest),
                pooled.max_abs()
            ),
        });
        let explained = limits::explained_margin(limit, pooled.reference_rms());
        let decided = top1.decided_disagreements(explained);
        if top1.images > 0 {
            checks.push(Check {
                name: "end to end: top-1 agreement".to_owned(),
                engine: mode.name(),
                measured: top1.agreement(),
                limit: Some(limits::TOP1_BETWEEN_RUNTIMES),
                passed: decided <= limits::disagreements(top1.images),
                message: format!(
                    "\"{name}\": {} of {} images disagree, {decided} of them by more than rounding explains",
                    top1.margins.len(),
                    top1.images
                ),
            });
        }
    }
    checks
}
