//! `dfq-onnx verify`.

use std::path::PathBuf;

use clap::Args;

use super::arguments::{EngineArguments, SampleArguments, ThresholdArguments};
use super::preprocess::InputArguments;
use super::quantized::load_pair;
use super::{Format, missed, print, print_document};
use crate::audit::audit;
use crate::data::Dataset;
use crate::gate::coverage_gate;
use crate::ir::Graph;
use crate::pipeline::checkers;
use crate::plan::{Target, total_macs};
use crate::report::render_verification;
use crate::shape;
use crate::stats::{guess_input, read_batch_norms};
use crate::verify::{VerifyOptions, limits::default_samples, verify};


#[derive(Args)]
pub(super) struct Arguments {
    /// The float model
    original: PathBuf,
    /// The quantized Q/DQ model, ours or another tool's
    quantized: PathBuf,
    /// Images to compare on instead of synthetic inputs (.npz; labels are not looked at)
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    #[command(flatten)]
    input: InputArguments,
    #[command(flatten)]
    samples: SampleArguments,
    #[command(flatten)]
    thresholds: ThresholdArguments,
    /// Whose kernels --min-coverage is about
    #[arg(long, default_value = "ort-cpu", requires = "min_coverage")]
    target: Target,
    /// How results are printed
    #[arg(long, default_value = "table")]
    format: Format,
    #[command(flatten)]
    engine: EngineArguments,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let (original, quantized) = load_pair(&arguments.original, &arguments.quantized)?;
    let engines = arguments.engine.start()?;
    let samples = match arguments.samples.samples()? {
        Some(samples) => samples,
        None => default_samples(total_macs(&inferred(&original)?)),
    };
    let inputs = match &arguments.data {
        Some(file) => {
            let images = Dataset::read(file)?.first(samples)?;
            let fed = original.fed_inputs();
            let shape = fed.first().and_then(|&id| original.value(id).shape.clone()).unwrap_or_default();
            vec![images.batch(0..images.len(), &arguments.input.preprocess(), &shape)?]
        }
        None => {
            let guess = || guess_input(&original, &read_batch_norms(&original));
            let input = arguments.input.input().unwrap_or_else(guess);
            input.synthetic(&original, samples, arguments.samples.seed, engines.threads)?
        }
    };
    let thresholds = arguments.thresholds.thresholds();
    let options = VerifyOptions {
        samples,
        seed: arguments.samples.seed,
        threads: engines.threads,
        shipped: Some(arguments.quantized.clone()),
        min_agreement: thresholds.min_agreement,
        min_sqnr: thresholds.min_sqnr,
        ..VerifyOptions::default()
    };
    let mut result = verify(&original, &quantized, &checkers(&engines), Some(&inputs), &options)?;
    result.synthetic_inputs = arguments.data.is_none();
    if let Some(limit) = thresholds.min_coverage {
        result.gates.push(coverage_gate(&audit(&quantized, arguments.target)?, limit));
    }
    match arguments.format {
        Format::Json => print_document(&result)?,
        Format::Table => print(&render_verification(&result))?,
    }
    let missed = missed(result.checks.iter().chain(&result.gates));
    Ok(if missed || !result.passed() { 4 } else { 0 })
}

fn inferred(original: &Graph) -> crate::Result<Graph> {
    let mut graph = original.clone();
    shape::infer(&mut graph)?;
    Ok(graph)
}
