//! The checks of a written file before it is published.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use super::Config;
use super::gate::{coverage_gate, lint_check};
use super::open_axes::open_axes_check;
use crate::data::{Dataset, evaluate};
use crate::error::Result;
use crate::ir::{Graph, Tensor};
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

/// Returns the runtimes that the checks will leave out, to warn before training.
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

/// The compared models.
pub(super) struct Models<'a> {
    /// The float model.
    pub float: &'a Graph,
    /// The quantized model with inputs of the planned sizes.
    pub quantized: &'a Graph,
    /// The quantized model as written: with open axes, and with operators unsupported by the engines here.
    pub written: &'a Graph,
}

/// Returns the results of all checks and thresholds for the written file, on `held_out` inputs that were handed over,
/// else on synthetic ones.
pub(super) fn check(
    &Models { float: original, quantized, written }: &Models,
    saved: &Saved,
    (report, held_out, samples): (&Report, Option<Vec<Tensor>>, usize),
    config: &Config,
    engines: &Engines,
) -> Result<Verification> {
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
    let is_synthetic = held_out.is_none();
    let inputs = match held_out {
        Some(inputs) => inputs,
        None => report.input.synthetic(quantized, samples, config.seed, engines.threads)?,
    };
    let mut found = verify(original, quantized, &checkers(engines), Some(&inputs), &options)?;
    found.synthetic_inputs = is_synthetic;
    if is_whole {
        let planned = (quantized, written);
        found.checks.extend(open_axes_check(original, planned, &report.input, engines.main())?);
    } else {
        found.checks.push(shipped_check(&saved.model, written)?);
    }
    found.checks.push(lint_check(quantized, config.policy.target));
    found.gates.extend(config.thresholds.min_coverage.map(|limit| coverage_gate(&report.audit, limit)));
    Ok(found)
}

/// Returns the quantized model in the form that the main engine supports: tract has no integers below 8 bits.
///
/// # Errors
/// Where there is no such copy (see [`verify::shadow`]).
pub fn readable<'a>(quantized: &'a Graph, engines: &Engines) -> Result<Cow<'a, Graph>> {
    Ok(if engines.ort.is_some() { Cow::Borrowed(quantized) } else { Cow::Owned(verify::shadow(quantized)?) })
}

/// Returns the verdict on the quantized model: by labels if there are any, else by its outputs on `held_out` inputs
/// that were handed over, else on synthetic ones.
pub(super) fn judge(
    (original, quantized): (&Graph, &Graph),
    (report, held_out, macs): (&Report, Option<&[Tensor]>, u64),
    config: &Config,
    engines: &Engines,
) -> Result<Judgement> {
    let checks = report.verification.as_ref().map_or(&[][..], |found| &found.checks);
    let is_guess = report.rests_on_a_guess();
    let judged = verdict::after_checks(checks, || {
        let inputs = match (&report.evaluation, held_out) {
            (Some(comparison), _) => return Ok(verdict::grade(&comparison.labels())),
            (None, Some(tensors)) => verdict::Inputs::of_data(tensors.to_vec()),
            (None, None) => verdict::Inputs {
                is_guess,
                ..verdict::Inputs::synthetic(quantized, macs, &report.input, config.seed, engines.threads)?
            },
        };
        verdict::judge(original, &*readable(quantized, engines)?, engines.main(), &inputs)
    })?;
    let policy = &config.policy;
    let path = |path: Option<&Path>| path.map_or(String::new(), |path| path.display().to_string());
    let files = (path(Some(&config.model)), path(config.output.as_deref()));
    let bits = policy.weight_bits.min(policy.activation_bits);
    let is_trained = !report.training.is_empty();
    let (model, output) = (files.0.as_str(), files.1.as_str());
    let situation = Situation { model, output, bits, is_trained, ..Situation::of_inputs(&report.inputs) };
    Ok(Judgement { next: situation.advice(&judged), ..judged })
}

/// Returns the final path of a checked file; none where it failed and is not kept.
pub(super) fn published_name(output: &Path, found: &Verification, keep_failed: bool) -> Option<PathBuf> {
    if found.passed() { Some(output.to_owned()) } else { keep_failed.then(|| failed_name(output)) }
}

/// Returns where a model for `output` goes that fails a hard check and is kept.
pub fn failed_name(output: &Path) -> PathBuf {
    let mut name = output.file_stem().unwrap_or_default().to_owned();
    name.push(".failed.onnx");
    output.with_file_name(name)
}

/// Returns the comparison of both models' correct predictions on labeled images; none without images.
pub(super) fn compare(
    (original, quantized): (&Graph, &Graph),
    images: Option<&Dataset>,
    config: &Config,
    engines: &Engines,
) -> Result<Option<Comparison>> {
    let Some(((data, preprocess), images)) = config.evaluation.as_ref().zip(images) else { return Ok(None) };
    let engine = engines.main();
    let float = evaluate(engine, original, images, preprocess, BATCH)?;
    let low = evaluate(engine, quantized, images, preprocess, BATCH)?;
    let labels = images.labels.iter().flatten();
    let mut found = [0; 3];
    for ((a, b), label) in float.predictions.iter().zip(&low.predictions).zip(labels) {
        let [lost, gained] = [a == label && b != label, b == label && a != label];
        let counts = [lost, gained, a == b];
        found.iter_mut().zip(counts).for_each(|(count, is_one)| *count += usize::from(is_one));
    }
    let [lost, gained, agreeing] = found;
    Ok(Some(Comparison {
        data: data.clone(),
        images: float.n,
        float_correct: float.correct,
        quantized_correct: low.correct,
        lost,
        gained,
        agreeing,
    }))
}
