//! `dfq-onnx verify`.

use std::path::PathBuf;

use clap::Args;

use super::arguments::{EngineArguments, PreprocessArguments, interval, limit, share};
use super::{Format, print, print_document, say};
use crate::audit::{audit, coverage_gate};
use crate::data::Dataset;
use crate::ir::Graph;
use crate::pipeline::checkers;
use crate::plan::{Target, total_macs};
use crate::report::render_verification;
use crate::stats::{InputStatistics, guess_input, read_batch_norms};
use crate::verify::{VerifyOptions, limits::default_samples, verify};
use crate::{onnx, shape};

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
    preprocess: PreprocessArguments,
    /// Smallest and largest value that the model is fed
    #[arg(long, value_name = "LO:HI", value_parser = interval, allow_hyphen_values = true)]
    input_range: Option<(f64, f64)>,
    /// Inputs to compare on [default: 64, fewer above 62 million multiply-accumulates, 8 at least]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    samples: Option<u32>,
    /// Synthetic inputs follow from it
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Exit with 4 when fewer inputs than this share get the float model's top-1 class
    #[arg(long, value_name = "SHARE", value_parser = share)]
    min_agreement: Option<f64>,
    /// Exit with 4 when an output's signal-to-noise ratio against the float model is below this
    #[arg(long, value_name = "DB", allow_negative_numbers = true, value_parser = limit)]
    min_sqnr: Option<f64>,
    /// Exit with 4 when --target computes less than this share of the multiply-accumulates in integers
    #[arg(long, value_name = "SHARE", value_parser = share)]
    min_coverage: Option<f64>,
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
    let (original, quantized) = (onnx::load(&arguments.original)?, onnx::load(&arguments.quantized)?);
    let engines = arguments.engine.start()?;
    let samples = match arguments.samples {
        Some(samples) => usize::try_from(samples)?,
        None => default_samples(total_macs(&inferred(&original)?)),
    };
    let inputs = match &arguments.data {
        Some(file) => {
            let images = Dataset::read(file)?.first(samples)?;
            let fed = original.fed_inputs();
            let shape = fed.first().and_then(|&id| original.value(id).shape.clone()).unwrap_or_default();
            vec![images.batch(0..images.len(), &arguments.preprocess.preprocess(), &shape)?]
        }
        None => input(arguments, &original).synthetic(&original, samples, arguments.seed, engines.threads)?,
    };
    let options = VerifyOptions {
        samples,
        seed: arguments.seed,
        threads: engines.threads,
        shipped: Some(arguments.quantized.clone()),
        min_agreement: arguments.min_agreement,
        min_sqnr: arguments.min_sqnr,
        ..VerifyOptions::default()
    };
    let mut result = verify(&original, &quantized, &checkers(&engines), Some(&inputs), &options)?;
    result.synthetic_inputs = arguments.data.is_none();
    if let Some(limit) = arguments.min_coverage {
        result.gates.push(coverage_gate(&audit(&quantized, arguments.target)?, limit));
    }
    match arguments.format {
        Format::Json => print_document(&result)?,
        Format::Table => print(&render_verification(&result))?,
    }
    for check in result.checks.iter().chain(&result.gates).filter(|c| !c.passed) {
        say(&format!("missed: {} ({}): {}", check.name, check.engine, check.message));
    }
    Ok(if result.passed() && result.gates_passed() { 0 } else { 4 })
}

fn inferred(original: &Graph) -> crate::Result<Graph> {
    let mut graph = original.clone();
    shape::infer(&mut graph)?;
    Ok(graph)
}

fn input(arguments: &Arguments, original: &Graph) -> InputStatistics {
    match arguments.input_range {
        Some((lo, hi)) => InputStatistics::of_interval(lo, hi),
        None => arguments.preprocess.input().unwrap_or_else(|| guess_input(original, &read_batch_norms(original))),
    }
}
