//! Compares a recipe's result end to end with rounding to nearest, by the outputs on probes.

use super::probes::Probe;
use crate::calibrate::CalibrationContext;
use crate::error::Result;
use crate::ir::{DType, Graph, Tensor};
use crate::outputs::{answering, compared_tensors};
use crate::runtime::{Engine, PIECE_BYTES, SessionOptions, run_in_batches};
use crate::sensitivity::{Part, partly_quantized};
use crate::solution::Solved;
use crate::verify::{Comparison, numbers};

/// Tolerated losses in dB: on average over outputs and kinds of probes, on average over outputs for one kind, and of
/// one output for one kind. A few samples resolve no smaller differences.
const HARMLESS: [f64; 3] = [0.75, 3.0, 4.5];

/// The outputs of the float network as reference.
pub(super) struct Judge<'a> {
    engine: &'a dyn Engine,
    /// The compared tensors.
    compared: Vec<(String, DType)>,
    probes: &'a [Probe],
    /// The reference outputs, by kind of probe, then by output.
    answers: Vec<Vec<Tensor>>,
}

/// Signal-to-noise ratios in dB, by kind of probe, then by output.
#[derive(Debug)]
pub(super) struct Ratios(Vec<Vec<f64>>);

impl<'a> Judge<'a> {
    /// Returns the judge of solutions for `float`.
    ///
    /// # Errors
    /// When the engine fails.
    pub fn new(float: &Graph, probes: &'a [Probe], context: &CalibrationContext<'a>) -> Result<Self> {
        let compared = compared_tensors(float).into_iter().map(|(id, dtype)| (float.name_of(id).to_owned(), dtype));
        let mut judge = Self { engine: context.engine, compared: compared.collect(), probes, answers: Vec::new() };
        judge.answers = judge.run(float)?;
        Ok(judge)
    }

    /// Returns the signal-to-noise ratios of the quantized outputs against the float ones.
    ///
    /// # Errors
    /// When the plan or the solution does not belong to the float network, or the engine fails.
    pub fn ratios(&self, solved: &Solved) -> Result<Ratios> {
        let found = self.run(&partly_quantized(solved, &Part::of(&solved.plan, true))?)?;
        let ratio = |(float, found): (&Tensor, &Tensor)| Comparison::of(&numbers(float), &numbers(found)).sqnr_db();
        let kind = |(float, found): (&Vec<Tensor>, &Vec<Tensor>)| float.iter().zip(found).map(ratio).collect();
        Ok(Ratios(self.answers.iter().zip(&found).map(kind).collect()))
    }

    /// Returns why `found` is worse than `start`, if it is.
    pub fn harm(&self, found: &Ratios, start: &Ratios) -> Option<String> {
        tracing::debug!("decibels of the steps {:.1?}, of rounding to nearest {:.1?}", found.0, start.0);
        let lost = |(found, start): (&Vec<f64>, &Vec<f64>)| found.iter().zip(start).map(|(f, s)| s - f).collect();
        let lost: Vec<Vec<f64>> = found.0.iter().zip(&start.0).map(lost).collect();
        let by_kind: Vec<f64> = lost.iter().map(|outputs| mean(outputs)).collect();
        let average = mean(&by_kind);
        if average > HARMLESS[0] {
            return Some(format!("{average:.1} dB below rounding to nearest on held-out inputs"));
        }
        let kinds = self.probes.iter().zip(by_kind.iter().zip(&lost));
        kinds.into_iter().find_map(|(probe, (&of_kind, outputs))| {
            let most = outputs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let lost = if of_kind > HARMLESS[1] { of_kind } else { most };
            let is_harm = of_kind > HARMLESS[1] || most > HARMLESS[2];
            is_harm.then(|| format!("{lost:.1} dB below rounding to nearest on {} inputs", probe.kind))
        })
    }

    /// Returns by how many dB `found` is better than `start`, on average over outputs and kinds of probes.
    pub fn gain(&self, found: &Ratios, start: &Ratios) -> f64 {
        let mean_of = |ratios: &Ratios| mean(&ratios.0.iter().map(|outputs| mean(outputs)).collect::<Vec<_>>());
        tracing::debug!("decibels {:.1?}, before {:.1?}", found.0, start.0);
        mean_of(found) - mean_of(start)
    }

    fn run(&self, graph: &Graph) -> Result<Vec<Vec<Tensor>>> {
        let tapped = answering(graph, &self.compared)?;
        let options = SessionOptions { piece_bytes: Some(PIECE_BYTES), ..SessionOptions::default() };
        let mut session = self.engine.load(&tapped, &options)?;
        self.probes.iter().map(|probe| run_in_batches(session.as_mut(), &tapped, &probe.inputs)).collect()
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}
