//! `dfq-onnx verify`.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::arguments::{EngineArguments, SampleArguments, ThresholdArguments};
use super::model::watched;
use super::preprocess::InputArguments;
use super::quantized::load_pair;
use super::scale::check_scale;
use super::shapes::ShapeArguments;
use super::{Format, missed, print_document, print_text};
use crate::audit::audit;
use crate::data::{Dataset, Feeds};
use crate::ir::Graph;
use crate::passes;
use crate::pipeline::coverage_gate;
use crate::pipeline::{checkers, readable};
use crate::plan::{Target, total_macs};
use crate::report::{aside_warning, render_judgement, render_verification};
use crate::shape;
use crate::stats::{KnownInput, guess_input, known_inputs, read_batch_norms};
use crate::verdict::{self, Judgement, Situation};
use crate::verify::{Verification, VerifyOptions, limits::default_samples, verify};

#[derive(Args)]
pub(super) struct Arguments {
    /// The float model
    original: PathBuf,
    /// The quantized Q/DQ model, ours or another tool's
    quantized: PathBuf,
    /// Inputs (.npz or .npy) to compare on, in place of synthetic ones; labels are not read. Arrays named after the
    /// model's inputs are used as they are; images are preprocessed by --mean, --std, --scale and --layout
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    #[command(flatten)]
    input: InputArguments,
    #[command(flatten)]
    shapes: ShapeArguments,
    #[command(flatten)]
    samples: SampleArguments,
    #[command(flatten)]
    thresholds: ThresholdArguments,
    /// Target runtime of --min-coverage
    #[arg(long, default_value = "ort-cpu", requires = "min_coverage")]
    target: Target,
    /// Output format
    #[arg(long, default_value = "table")]
    format: Format,
    #[command(flatten)]
    engine: EngineArguments,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let watched = watched([&arguments.original, &arguments.quantized], arguments.data.as_ref());
    let (mut original, mut quantized) = load_pair(&arguments.original, &arguments.quantized)?;
    arguments.shapes.set(&mut original)?;
    let engines = arguments.engine.start()?;
    let aside = passes::set_aside(&mut original, engines.main())?;
    // An unknown operator in the quantized model alone is an error.
    if aside.is_some() {
        passes::set_aside(&mut quantized, engines.main())?;
    }
    let described = arguments.shapes.described(&original)?;
    let feeds = arguments.data.as_ref().map(|file| feeds(file, &described, &arguments.input)).transpose()?;
    let macs = total_macs(&inferred(&described)?);
    let samples = match (arguments.samples.samples()?, feeds.as_ref()) {
        (Some(samples), _) => samples,
        (None, Some(feeds)) => feeds.samples().unwrap_or(1),
        (None, None) => default_samples(macs),
    };
    let known = arguments.input.input()?.unwrap_or_else(|| guess_input(&original, &read_batch_norms(&original)));
    let inputs = match &feeds {
        Some(feeds) => feeds.all()?,
        None => known.synthetic(&described, samples, arguments.samples.seed, engines.threads)?,
    };
    let thresholds = arguments.thresholds.thresholds();
    let options = VerifyOptions {
        samples,
        seed: arguments.samples.seed,
        threads: engines.threads,
        shipped: aside.is_none().then(|| arguments.quantized.clone()),
        min_agreement: thresholds.min_agreement,
        min_sqnr: thresholds.min_sqnr,
        ..VerifyOptions::default()
    };
    let mut result = verify(&original, &quantized, &checkers(&engines), Some(&inputs), &options)?;
    result.synthetic_inputs = feeds.is_none();
    result.notes.extend(aside.as_ref().map(|aside| aside_warning(aside).to_string()));
    let is_asked = arguments.samples.samples()?.is_some();
    result.notes.extend(feeds.and_then(|feeds| left_out(&feeds, &result, is_asked)));
    if let Some(limit) = thresholds.min_coverage {
        result.gates.push(coverage_gate(&audit(&quantized, arguments.target)?, limit));
    }
    let known_inputs = known_inputs(&described, &known);
    let judged = verdict::after_checks(&result.checks, || {
        let (seed, is_guess) = (arguments.samples.seed, known_inputs.iter().any(|i| i.is_guess));
        let judged_on = match arguments.data {
            Some(_) => verdict::Inputs::of_data(inputs),
            None => verdict::Inputs {
                is_guess,
                ..verdict::Inputs::synthetic(&described, macs, &known, seed, engines.threads)?
            },
        };
        verdict::judge(&original, &*readable(&quantized, &engines)?, engines.main(), &judged_on)
    })?;
    let judgement = Judgement { next: advice(arguments, &judged, &known_inputs, result.lowest_bits), ..judged };
    watched.check()?;
    show(&result, &judgement, arguments.format)?;
    let missed = missed(result.checks.iter().chain(&result.gates)) || !result.passed();
    Ok(if missed || arguments.thresholds.refuses(&judgement) { 4 } else { 0 })
}

/// The checks and the verdict.
#[derive(Serialize)]
struct Judged<'a> {
    #[serde(flatten)]
    verification: &'a Verification,
    #[serde(flatten)]
    judgement: &'a Judgement,
}

fn show(verification: &Verification, judgement: &Judgement, format: Format) -> anyhow::Result<()> {
    match format {
        Format::Json => print_document(&Judged { verification, judgement }),
        Format::Table => {
            print_text(&format!("{}\n\n{}", render_verification(verification), render_judgement(judgement)))
        }
    }
}

fn advice(arguments: &Arguments, judgement: &Judgement, inputs: &[KnownInput], bits: u32) -> String {
    let [model, output] = [&arguments.original, &arguments.quantized].map(|path| path.display().to_string());
    let of_files = Situation { model: &model, output: &output, bits, is_trained: true, ..Situation::of_inputs(inputs) };
    of_files.advice(judgement)
}

/// Returns the inputs in the file at `path`, after checking their scale.
fn feeds(path: &Path, original: &Graph, input: &InputArguments) -> crate::Result<Feeds> {
    let feeds = Dataset::read(path)?.feeds(original, &input.preprocess()?)?;
    check_scale(&feeds, original, input)?;
    Ok(feeds)
}

/// Returns the number of samples left out and the reason, if any were. `is_asked` is whether the user gave a number.
fn left_out(feeds: &Feeds, result: &Verification, is_asked: bool) -> Option<String> {
    let (all, used) = (feeds.samples()?, result.samples);
    let why = if is_asked { "--samples asks for no more" } else { "the model takes batches of a fixed size alone" };
    (used < all).then(|| format!("{used} of the {all} samples of {} were compared: {why}", feeds.place()))
}

fn inferred(original: &Graph) -> crate::Result<Graph> {
    let mut graph = original.clone();
    shape::infer(&mut graph)?;
    Ok(graph)
}
