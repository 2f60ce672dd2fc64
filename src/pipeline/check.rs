//! The checks of a written file before it is published.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use super::Config;
use super::gate::{coverage_gate, lint_check};
use super::handed_over::HandedOver;
use super::open_axes::open_axes_check;
use crate::data::{Dataset, evaluate};
use crate::error::Result;
use crate::ir::Graph;
use crate::onnx::Saved;
use crate::passes;
use crate::report::{self, Comparison, Report, Warning};
use crate::runtime::{Engine, Engines, SessionOptions};
use crate::stats::InputStatistics;
use crate::verdict::{self, Judgement, Situation};
use crate::verify::{self, LeftOut, Verification, VerifyOptions, shipped_check, verify};

/// Images per batch of the evaluation.
const BATCH: usize = 50;

/// Returns the engines in the form that the checks take.
pub fn checkers(engines: &Engines) -> verify::Engines<'_> {
    verify::Engines {
        ort: engines.ort.as_ref().map(|ort| ort as &dyn Engine),
        tract: engines.checks_in_tract.then_some(&engines.tract),
    }
}

/// Returns the runtimes that will take no part in the checks, to warn before training.
pub(super) fn foretold(original: &Graph, input: &InputStatistics, config: &Config, engines: &Engines) -> Vec<LeftOut> {
    let mut fixed = original.clone();
    let inputs = passes::fix_shapes(&mut fixed, &config.input_shapes).and_then(|_| input.synthetic(&fixed, 1, 0, 1));
    // A model that cannot be fed is rejected with a reason later, where it has to be fed.
    inputs.map_or(Vec::new(), |inputs| verify::left_out(&fixed, &checkers(engines), &inputs))
}

/// Returns the reference of the quantized model: the original, or its float32 form where the main engine lacks kernels
/// for the original's types.
pub(super) fn reference<'a>(original: &'a Graph, engines: &Engines) -> Result<(Cow<'a, Graph>, Option<Warning>)> {
    if report::conversion(original).is_none() {
        return Ok((Cow::Borrowed(original), None));
    }
    let engine = engines.main();
    let Err(refused) = engine.load(original, &SessionOptions::default()) else {
        return Ok((Cow::Borrowed(original), None));
    };
    let mut converted = original.clone();
    passes::lift_constants(&mut converted)?;
    passes::convert_floats(&mut converted)?;
    let warning = Warning::OriginalNotRun { engine: engine.name(), reason: refused.to_string() };
    Ok((Cow::Owned(converted), Some(warning)))
}

/// The float and the quantized model of a run, and the inputs that both are compared on.
pub(super) struct Checks<'a> {
    pub config: &'a Config,
    pub engines: &'a Engines,
    /// The float model.
    pub float: &'a Graph,
    /// The quantized model with inputs of the planned sizes.
    pub quantized: &'a Graph,
    /// Inputs that were handed over, if any.
    pub handed: Option<&'a HandedOver>,
    /// The number of samples of the checks.
    pub samples: usize,
    /// Multiply-accumulates per sample.
    pub macs: u64,
}

impl Checks<'_> {
    /// Returns the results of all checks and thresholds for the saved file, on held-out inputs that were handed over,
    /// else on synthetic ones. `written` is the quantized model as written: with open axes, and with operators
    /// unsupported by the engines here.
    pub fn verify(&self, written: &Graph, saved: &Saved, report: &Report) -> Result<Verification> {
        let Self { config, engines, float, quantized, handed, samples, .. } = *self;
        let is_whole = written.nodes.len() == quantized.nodes.len();
        let options = VerifyOptions {
            samples,
            seed: config.seed,
            threads: engines.threads,
            shipped: is_whole.then(|| saved.model.clone()),
            min_agreement: config.thresholds.min_agreement,
            min_sqnr: config.thresholds.min_sqnr,
            ..VerifyOptions::default()
        };
        let inputs = match handed {
            Some(handed) => handed.first_held_out(samples)?,
            None => report.input.synthetic(quantized, samples, config.seed, engines.threads)?,
        };
        let mut found = verify(float, quantized, &checkers(engines), Some(&inputs), &options)?;
        found.synthetic_inputs = handed.is_none();
        if is_whole {
            found.checks.extend(open_axes_check(float, quantized, written, &report.input, engines.main())?);
        } else {
            found.checks.push(shipped_check(&saved.model, written)?);
        }
        found.checks.push(lint_check(quantized, config.policy.target));
        found.gates.extend(config.thresholds.min_coverage.map(|limit| coverage_gate(&report.audit, limit)));
        Ok(found)
    }

    /// Returns the comparison of both models' correct predictions on labeled images; none without images.
    pub fn compare(&self, images: Option<&Dataset>) -> Result<Option<Comparison>> {
        let Some(((data, preprocess), images)) = self.config.evaluation.as_ref().zip(images) else { return Ok(None) };
        let engine = self.engines.main();
        let float = evaluate(engine, self.float, images, preprocess, BATCH)?;
        let quantized = evaluate(engine, self.quantized, images, preprocess, BATCH)?;
        let labels = images.labels.iter().flatten();
        let mut found = [0; 3];
        for ((a, b), label) in float.predictions.iter().zip(&quantized.predictions).zip(labels) {
            let counts = [a == label && b != label, b == label && a != label, a == b];
            found.iter_mut().zip(counts).for_each(|(count, is_one)| *count += usize::from(is_one));
        }
        let [lost, gained, agreeing] = found;
        Ok(Some(Comparison {
            data: data.clone(),
            images: float.n,
            float_correct: float.correct,
            quantized_correct: quantized.correct,
            lost,
            gained,
            agreeing,
        }))
    }

    /// Returns the verdict on the quantized model: by labels if there are any, else by its outputs on held-out inputs
    /// that were handed over, else on synthetic ones.
    pub fn judge(&self, report: &Report) -> Result<Judgement> {
        let Self { config, engines, quantized, macs, .. } = *self;
        let checks = report.verification.as_ref().map_or(&[][..], |found| &found.checks);
        let is_guess = report.rests_on_a_guess();
        let judged = verdict::after_checks(checks, || {
            let inputs = match (&report.evaluation, self.handed) {
                (Some(comparison), _) => return Ok(verdict::grade(&comparison.labels())),
                (None, Some(handed)) => verdict::Inputs::of_data(handed.held_out.clone()),
                (None, None) => verdict::Inputs {
                    is_guess,
                    ..verdict::Inputs::synthetic(quantized, macs, &report.input, config.seed, engines.threads)?
                },
            };
            verdict::judge(self.float, &*readable(quantized, engines)?, engines.main(), &inputs)
        })?;
        let policy = &config.policy;
        let path = |path: Option<&Path>| path.map_or(String::new(), |path| path.display().to_string());
        let (model, output) = (path(Some(&config.model)), path(config.output.as_deref()));
        let bits = policy.weight_bits.min(policy.activation_bits);
        let is_trained = !report.training.is_empty();
        let inputs = Situation::of_inputs(&report.inputs);
        let situation = Situation { model: &model, output: &output, bits, is_trained, ..inputs };
        Ok(Judgement { next: situation.advice(&judged), ..judged })
    }
}

/// Returns the quantized model in the form that the main engine supports: tract has no integers below 8 bits.
///
/// # Errors
/// Where there is no such copy (see [`verify::shadow`]).
pub fn readable<'a>(quantized: &'a Graph, engines: &Engines) -> Result<Cow<'a, Graph>> {
    Ok(if engines.ort.is_some() { Cow::Borrowed(quantized) } else { Cow::Owned(verify::shadow(quantized)?) })
}

/// Returns the final path of a checked file; none where it failed and is not kept.
pub(super) fn published_name(output: &Path, found: &Verification, keep_failed: bool) -> Option<PathBuf> {
    if found.passed() { Some(output.to_owned()) } else { keep_failed.then(|| failed_name(output)) }
}

/// Returns the path of a model that fails a hard check and is kept, in place of `output`.
pub fn failed_name(output: &Path) -> PathBuf {
    let mut name = output.file_stem().unwrap_or_default().to_owned();
    name.push(".failed.onnx");
    output.with_file_name(name)
}
