//! The engines and modes that a model is checked in, and the end-to-end comparison between them.

use super::compare::{Comparison, Top1, numbers};
use super::limits;
use super::outputs::{compared_tensors, may_hold_scores};
use super::result::Check;
use super::tap::tap;
use crate::error::Result;
use crate::ir::{Graph, Tensor};
use crate::runtime::{Engine, Optimisation, Session, SessionOptions};

/// The engines to check with; one of both at least.
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
    /// Whether it needs the copy without tensors below 8 bits.
    pub reads_copy: bool,
}

impl<'a> Mode<'a> {
    /// Returns how results name this mode.
    pub fn name(&self) -> String {
        match (self.reads_copy, self.optimisation) {
            (false, Optimisation::None) => format!("{}, optimisation off", self.engine.name()),
            _ => self.engine.name(),
        }
    }

    /// Returns whether Q/DQ around an operator becomes an integer kernel here.
    pub fn fuses(&self) -> bool {
        !self.reads_copy && self.optimisation == Optimisation::Default
    }

    /// Returns a session for `graph`.
    ///
    /// # Errors
    /// When the engine refuses it.
    pub fn load(&self, graph: &Graph) -> Result<Box<dyn Session>> {
        self.engine.load(graph, &SessionOptions { optimisation: self.optimisation, ..SessionOptions::default() })
    }

    /// Returns the same engine with its default optimisations.
    pub fn optimised(&self) -> Mode<'a> {
        Mode { optimisation: Optimisation::Default, ..*self }
    }
}

/// Returns the modes to check in. The first is the reference: nodes run as they are written, where that can be had.
pub fn modes<'a>(engines: &Engines<'a>) -> Vec<Mode<'a>> {
    let mut modes = Vec::new();
    if let Some(engine) = engines.ort {
        modes.push(Mode { engine, optimisation: Optimisation::None, reads_copy: false });
        modes.push(Mode { engine, optimisation: Optimisation::Default, reads_copy: false });
    }
    if let Some(engine) = engines.tract {
        modes.push(Mode { engine, optimisation: Optimisation::Default, reads_copy: true });
    }
    modes
}

/// The quantized model as it is and as the copy for tract, or why there is no copy.
pub struct Subject<'a> {
    /// As it is shipped.
    pub graph: &'a Graph,
    /// The copy.
    pub copy: Result<Graph>,
}

impl Subject<'_> {
    /// Returns the graph that `mode` can read.
    ///
    /// # Errors
    /// Why there is no such copy.
    pub fn for_mode(&self, mode: &Mode) -> Result<&Graph, String> {
        match (&self.copy, mode.reads_copy) {
            (_, false) => Ok(self.graph),
            (Ok(copy), true) => Ok(copy),
            (Err(e), true) => Err(e.to_string()),
        }
    }
}

/// What [`end_to_end`] found.
pub struct EndToEnd<'a> {
    /// The modes that ran; the first of them is the reference.
    pub ran: Vec<Mode<'a>>,
    /// That the model loads and runs, relative RMS of each output, agreement of the highest class.
    pub checks: Vec<Check>,
    /// The model's outputs in the reference, batch by batch.
    pub outputs: Vec<Vec<Tensor>>,
}

/// Runs the model on every batch in every mode, one session at a time.
pub fn end_to_end<'a>(
    subject: &Subject,
    modes: &[Mode<'a>],
    batches: &[Vec<Tensor>],
    lowest_bits: u32,
) -> EndToEnd<'a> {
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
        let ran = match run_all(subject, mode, batches) {
            Ok(ran) => ran,
            Err(message) => {
                found.checks.push(check("loads and runs", false, message));
                continue;
            }
        };
        found.checks.push(check("loads and runs", true, String::new()));
        match found.ran.is_empty() {
            true => (found.outputs, reference) = (ran.outputs, ran.compared),
            false => compare(&reference, &ran.compared, (subject.graph, lowest_bits), mode, &mut found.checks),
        }
        found.ran.push(*mode);
    }
    found
}

/// Outputs of the model, and the tensors that are compared between runtimes, batch by batch.
struct Ran {
    outputs: Vec<Vec<Tensor>>,
    compared: Vec<Vec<Tensor>>,
}

fn run_all(subject: &Subject, mode: &Mode, batches: &[Vec<Tensor>]) -> Result<Ran, String> {
    let graph = subject.for_mode(mode)?;
    let in_words = |e: crate::Error| e.to_string();
    let mut session = mode.load(graph).map_err(in_words)?;
    let compared = compared_tensors(subject.graph);
    if compared.iter().map(|(id, _)| id).eq(&graph.outputs) {
        let outputs = batches.iter().map(|batch| session.run(batch).map_err(in_words));
        let outputs: Vec<Vec<Tensor>> = outputs.collect::<Result<_, _>>()?;
        return Ok(Ran { compared: outputs.clone(), outputs });
    }
    // The file as it is runs once at least; what is compared lies before its outputs.
    session.run(&batches[0]).map_err(in_words)?;
    let (tapped, sources) = tap(graph, &compared);
    drop(session);
    let mut session = mode.load(&tapped).map_err(in_words)?;
    let mut ran = Ran { outputs: Vec::new(), compared: Vec::new() };
    for batch in batches {
        let mut outputs = session.run(batch).map_err(in_words)?;
        ran.compared.push(sources.iter().map(|source| source.pick(batch, &outputs).clone()).collect());
        outputs.truncate(graph.outputs.len());
        ran.outputs.push(outputs);
    }
    Ok(ran)
}

fn compare(
    reference: &[Vec<Tensor>],
    found: &[Vec<Tensor>],
    (graph, lowest_bits): (&Graph, u32),
    mode: &Mode,
    checks: &mut Vec<Check>,
) {
    let limit = limits::relative_rms(lowest_bits);
    for (i, (output, _)) in compared_tensors(graph).into_iter().enumerate() {
        let (mut comparison, mut top1) = (Comparison::default(), Top1::default());
        for (reference, found) in reference.iter().zip(found) {
            comparison.add(&numbers(&reference[i]), &numbers(&found[i]));
            if may_hold_scores(graph, output) {
                top1.add(&reference[i], &found[i]);
            }
        }
        let name = graph.name_of(output);
        let relative = comparison.relative_rms();
        checks.push(Check {
            name: "end to end: relative RMS".to_owned(),
            engine: mode.name(),
            measured: Some(relative),
            limit: Some(limit),
            passed: relative <= limit,
            message: format!("\"{name}\", largest difference {:.3e}", comparison.max_abs()),
        });
        let explained = limits::explained_margin(limit, comparison.reference_rms());
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
}
