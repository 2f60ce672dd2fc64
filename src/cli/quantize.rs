//! `dfq-onnx quantize`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::arguments::{EngineArguments, PreprocessArguments, input_shape, interval, limit, share};
use super::destination::{destinations, weights_beside, write_whole};
use super::{Format, print, say, show_stage};
use crate::error::Result;
use crate::pipeline::{Config, quantize};
use crate::plan::{Container, Policy, Target};
use crate::recipes::{self, RECIPES, Recipe};
use crate::report::{Report, render};
use crate::stats::InputStatistics;

#[derive(Args)]
pub(super) struct Arguments {
    /// The float model
    model: PathBuf,
    /// Where the quantized model goes [default: MODEL.wXaY.onnx beside the model]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Bits of weights and activations, 2 to 8 [default: 8]
    #[arg(long, value_name = "N", conflicts_with = "precision", value_parser = clap::value_parser!(u32).range(2..=8))]
    bits: Option<u32>,
    /// Bits of weights and activations apart, such as w4a8
    #[arg(long, value_name = "wXaY", value_parser = precision)]
    precision: Option<(u32, u32)>,
    /// Whom the file is for
    #[arg(long, default_value = "onnx")]
    target: Target,
    /// What weights of 4 bits and below are stored in: int8 runs fast, int4 is small, auto follows the target
    #[arg(long, default_value = "auto")]
    container: Container,
    /// Weights of 7 bits at most, for x86 processors without VNNI, whose kernels saturate at 8
    #[arg(long)]
    reduce_range: bool,
    /// How much work to spend; fast needs no training
    #[arg(long, default_value = "fast")]
    effort: Effort,
    /// Recipe by name [default: the best that --effort allows]
    #[arg(long, value_name = "NAME")]
    recipe: Option<String>,
    /// One scale per output channel of a weight (the default)
    #[arg(long, conflicts_with = "per_tensor")]
    per_channel: bool,
    /// One scale per weight
    #[arg(long)]
    per_tensor: bool,
    /// Weights with zero point 0 (the default)
    #[arg(long, conflicts_with = "affine")]
    symmetric: bool,
    /// Weights with a zero point of their own
    #[arg(long, visible_alias = "asymmetric")]
    affine: bool,
    /// Keep a node float, by name or by a regular expression over the whole name (repeatable)
    #[arg(long, value_name = "NAME|REGEX", visible_alias = "nodes-to-exclude")]
    exclude: Vec<String>,
    /// Keep every node of an operator float (repeatable)
    #[arg(long, value_name = "OP", visible_alias = "op-types-to-exclude")]
    exclude_op: Vec<String>,
    /// Bits of one layer's weight and input (repeatable)
    #[arg(long, value_name = "NAME=N", value_parser = layer_bits)]
    layer_bits: Vec<(String, u32)>,
    /// Give the first and the last layer the bits asked for too, instead of 8
    #[arg(long)]
    all_layers: bool,
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

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Effort {
    /// Analytic, no training.
    Fast,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let (weight_bits, activation_bits) = arguments.precision.unwrap_or_else(|| {
        let bits = arguments.bits.unwrap_or(8);
        (bits, bits)
    });
    let output = match &arguments.output {
        Some(path) => path.clone(),
        None => arguments.model.with_extension(format!("w{weight_bits}a{activation_bits}.onnx")),
    };
    let report_path = arguments.report.clone().unwrap_or_else(|| output.with_extension("report.json"));
    let [output, report_path, _] = match arguments.dry_run {
        true => [output, report_path, PathBuf::new()],
        false => destinations(&arguments.model, [&output, &report_path, &weights_beside(&output)])?,
    };
    let config = Config {
        model: arguments.model.clone(),
        output: (!arguments.dry_run).then(|| output.clone()),
        recipe: recipe(arguments)?,
        policy: policy(arguments, weight_bits, activation_bits),
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

fn recipe(arguments: &Arguments) -> Result<&'static Recipe> {
    match (&arguments.recipe, arguments.effort) {
        (Some(name), _) => recipes::find(name),
        (None, Effort::Fast) => Ok(&RECIPES[0]),
    }
}

fn policy(arguments: &Arguments, weight_bits: u32, activation_bits: u32) -> Policy {
    Policy {
        target: arguments.target,
        weight_bits,
        activation_bits,
        per_channel: !arguments.per_tensor,
        symmetric: !arguments.affine,
        all_layers: arguments.all_layers,
        exclude: arguments.exclude.clone(),
        exclude_ops: arguments.exclude_op.clone(),
        layer_bits: arguments.layer_bits.clone(),
        container: arguments.container,
        reduce_range: arguments.reduce_range,
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

fn precision(text: &str) -> Result<(u32, u32), String> {
    let refused = || "expected wXaY with bits from 2 to 8, such as w4a8".to_owned();
    let (weight, activation) = text.strip_prefix('w').and_then(|t| t.split_once('a')).ok_or_else(refused)?;
    let bits = |t: &str| t.parse::<u32>().ok().filter(|b| (2..=8).contains(b)).ok_or_else(refused);
    Ok((bits(weight)?, bits(activation)?))
}

fn layer_bits(text: &str) -> Result<(String, u32), String> {
    let refused = || "expected NAME=N with bits from 2 to 8".to_owned();
    let (name, bits) = text.rsplit_once('=').ok_or_else(refused)?;
    let bits = bits.parse::<u32>().ok().filter(|b| (2..=8).contains(b)).ok_or_else(refused)?;
    Ok((name.to_owned(), bits))
}
