//! `dfq-onnx quantize`.

use std::path::PathBuf;

use clap::Args;

use super::arguments::{EngineArguments, PreprocessArguments, input_shape, interval, limit, share};
use super::destination::{destinations, weights_beside, write_whole};
use super::plan::PlanArguments;
use super::{Format, print, say, show_stage};
use crate::error::Result;
use crate::pipeline::{Config, quantize};
use crate::report::{Report, render};
use crate::sensitivity::{CANDIDATES, Request};
use crate::stats::InputStatistics;

#[derive(Args)]
pub(super) struct Arguments {
    /// The float model
    model: PathBuf,
    /// Where the quantized model goes [default: MODEL.wXaY.onnx beside the model]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    plan: PlanArguments,
    /// Choose bits for each weight so that their average over all weight elements is at most N, 2 to 8
    #[arg(long, value_name = "N", conflicts_with_all = ["bits", "precision"], value_parser = average)]
    auto_bits: Option<f64>,
    /// Widths that --auto-bits chooses from [default: 2,3,4,5,6,8]
    #[arg(long, value_name = "N[,N...]", requires = "auto_bits", value_delimiter = ',',
          value_parser = clap::value_parser!(u32).range(2..=8))]
    bit_candidates: Vec<u32>,
    /// Rank layers by what quantizing them costs, each alone, in the report (as `dfq-onnx sensitivity` does)
    #[arg(long)]
    sensitivity: bool,
    /// Fix the shape of an input (repeatable)
    #[arg(long, value_name = "NAME:1x3x224x224", value_parser = input_shape)]
    input_shape: Vec<(String, Vec<usize>)>,
    /// Smallest and largest value that the model is fed
    #[arg(long, value_name = "LO:HI", value_parser = interval, allow_hyphen_values = true)]
    input_range: Option<(f64, f64)>,
    /// Mean and variance per channel of tensors behind folded normalisations: JSON {"TENSOR": {"mean": [..], "var": [..]}}
    /// or .npz with TENSOR.mean and TENSOR.var. TENSOR is the output of a layer with its bias, before its activation
    /// function, or the layer's node; `inspect --bn-stats-out` writes such a file
    #[arg(long, value_name = "FILE")]
    bn_stats: Option<PathBuf>,
    /// Labelled images (.npz with "images" and "labels") to count accuracy on; they change nothing else
    #[arg(long, value_name = "FILE")]
    eval: Option<PathBuf>,
    #[command(flatten)]
    preprocess: PreprocessArguments,
    /// Synthetic inputs of the checks [default: 64, fewer above 62 million multiply-accumulates, 8 at least]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    samples: Option<u32>,
    /// Everything random follows from it
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Exit with 4 when fewer synthetic inputs than this share get the float model's top-1 class
    #[arg(long, value_name = "SHARE", value_parser = share)]
    min_agreement: Option<f64>,
    /// Exit with 4 when an output's signal-to-noise ratio against the float model is below this
    #[arg(long, value_name = "DB", allow_negative_numbers = true, value_parser = limit)]
    min_sqnr: Option<f64>,
    /// Exit with 4 when the target computes less than this share of the multiply-accumulates in integers
    #[arg(long, value_name = "SHARE", value_parser = share)]
    min_coverage: Option<f64>,
    /// Exit with 4 when top-1 on --eval drops by more than this many points
    #[arg(long, value_name = "POINTS", requires = "eval", allow_negative_numbers = true, value_parser = limit)]
    max_drop: Option<f64>,
    /// Keep a model that fails a hard check, as NAME.failed.onnx
    #[arg(long)]
    keep_failed: bool,
    /// Put weights into a file of their own whatever their size
    #[arg(long)]
    external_data: bool,
    /// Print the plan and write nothing
    #[arg(long, conflicts_with_all = ["min_agreement", "min_sqnr", "min_coverage", "keep_failed", "report"])]
    dry_run: bool,
    /// How the report is printed
    #[arg(long, default_value = "table")]
    format: Format,
    /// Where the report goes as JSON [default: OUTPUT.report.json]
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    #[command(flatten)]
    engine: EngineArguments,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let (weight_bits, activation_bits) = arguments.plan.bits();
    let precision = match arguments.auto_bits {
        Some(average) => format!("auto{average}a{activation_bits}"),
        None => format!("w{weight_bits}a{activation_bits}"),
    };
    let output = match &arguments.output {
        Some(path) => path.clone(),
        None => arguments.model.with_extension(format!("{precision}.onnx")),
    };
    let report_path = arguments.report.clone().unwrap_or_else(|| output.with_extension("report.json"));
    let [output, report_path, _] = match arguments.dry_run {
        true => [output, report_path, PathBuf::new()],
        false => destinations(&arguments.model, [&output, &report_path, &weights_beside(&output)])?,
    };
    let config = Config {
        model: arguments.model.clone(),
        output: (!arguments.dry_run).then(|| output.clone()),
        recipe: arguments.plan.recipe()?,
        policy: arguments.plan.policy(),
        auto_bits: arguments.auto_bits.map(|average| Request { average, candidates: candidates(arguments) }),
        sensitivity: arguments.sensitivity,
        input_shapes: arguments.input_shape.clone(),
        input: match arguments.input_range {
            Some((lo, hi)) => Some(InputStatistics::of_interval(lo, hi)),
            None => arguments.preprocess.input(),
        },
        statistics: arguments.bn_stats.clone(),
        seed: arguments.seed,
        samples: arguments.samples.map(usize::try_from).transpose()?,
        evaluation: arguments.eval.clone().map(|file| (file, arguments.preprocess.preprocess())),
        min_agreement: arguments.min_agreement,
        min_sqnr: arguments.min_sqnr,
        min_coverage: arguments.min_coverage,
        keep_failed: arguments.keep_failed,
        external_data: arguments.external_data,
    };
    let engines = arguments.engine.start()?;
    let report = quantize(&config, &engines, &mut show_stage)?;
    let json = serde_json::to_string_pretty(&report)?;
    if !arguments.dry_run {
        write_whole(&report_path, json.as_bytes())?;
    }
    match arguments.format {
        Format::Table => print(&render(&report))?,
        Format::Json => print(&json)?,
    }
    Ok(verdict(&report, arguments.max_drop))
}

fn candidates(arguments: &Arguments) -> Vec<u32> {
    match arguments.bit_candidates.as_slice() {
        [] => CANDIDATES.to_vec(),
        given => given.to_vec(),
    }
}

/// Says on stderr which check or threshold was missed, and returns the exit code.
fn verdict(report: &Report, max_drop: Option<f64>) -> u8 {
    let mut missed: Vec<String> = Vec::new();
    if let Some(verification) = &report.verification {
        let failed = verification.checks.iter().chain(&verification.gates).filter(|c| !c.passed);
        missed.extend(failed.map(|c| format!("{} ({}): {}", c.name, c.engine, c.message)));
        if !verification.passed() {
            missed.push("no model was written under the name asked for (--keep-failed keeps it)".to_owned());
        }
    }
    if let (Some(limit), Some(comparison)) = (max_drop, &report.evaluation) {
        let [float, quantized, _] = comparison.percentages();
        if float - quantized > limit {
            missed.push(format!("accuracy drops by {:.2} points, at most {limit} allowed", float - quantized));
        }
    }
    for text in &missed {
        say(&format!("missed: {text}"));
    }
    if missed.is_empty() { 0 } else { 4 }
}

fn average(text: &str) -> Result<f64, String> {
    let value = text.trim().parse::<f64>().ok().filter(|bits| (2.0..=8.0).contains(bits));
    value.ok_or_else(|| "expected an average from 2 to 8 bits, such as 4 or 3.5".to_owned())
}
