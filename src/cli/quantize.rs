//! `dfq-onnx quantize`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::arguments::{EngineArguments, ThresholdArguments, limit, whole};
use super::destination::destinations;
use super::model::ModelArguments;
use super::progress::Reporter;
use super::training::TrainingArguments;
use super::{Format, missed, print, print_text, say};
use crate::error::{Error, Result};
use crate::pipeline::{Config, Ranges, failed_name, quantize};
use crate::report::{Report, json, render};
use crate::sensitivity::{CANDIDATES, Request};
use crate::synthesis;

/// The time for training where the program decides whether to train.
const BUDGET: Duration = Duration::from_mins(10);

#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    /// Output file [default: MODEL.wXaY.onnx]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Choose the bits of each weight, with at most N bits on average over all weight elements, 2 to 8
    #[arg(long, value_name = "N", conflicts_with_all = ["bits", "precision"], value_parser = average)]
    auto_bits: Option<f64>,
    /// Bits that --auto-bits chooses from [default: 2,3,4,5,6,8]
    #[arg(long, value_name = "N[,N...]", requires = "auto_bits", value_delimiter = ',',
          value_parser = whole(2..=8u32))]
    bit_candidates: Vec<u32>,
    /// Rank layers by sensitivity in the report (as `dfq-onnx sensitivity` does)
    #[arg(long)]
    sensitivity: bool,
    /// Inputs (.npz or .npy) for calibration and training, in place of synthetic ones; labels are not read. Arrays
    /// named after the model's inputs are used as they are; images are preprocessed by --mean, --std, --scale and
    /// --layout
    #[arg(long, value_name = "FILE", conflicts_with = "ranges")]
    data: Option<PathBuf>,
    /// Number of synthetic images, where the recipe or --ranges uses any [default: 256, 1024 with --effort max]
    #[arg(long, value_name = "N", conflicts_with = "data", value_parser = whole(2..=1_000_000u32))]
    images: Option<u32>,
    /// Source of activation ranges
    #[arg(long, value_enum, default_value_t = Ranges::Analytic)]
    ranges: Ranges,
    #[command(flatten)]
    training: TrainingArguments,
    #[command(flatten)]
    thresholds: ThresholdArguments,
    /// Exit with code 4 if top-1 on --eval drops by more than this many points
    #[arg(long, value_name = "POINTS", requires = "eval", allow_negative_numbers = true, value_parser = limit)]
    max_drop: Option<f64>,
    /// Keep a model that fails a check, as NAME.failed.onnx
    #[arg(long)]
    keep_failed: bool,
    /// Store weights in a separate file, whatever their size
    #[arg(long)]
    external_data: bool,
    /// Print the plan and write nothing
    #[arg(long, conflicts_with_all = ["min_agreement", "min_sqnr", "min_coverage", "keep_failed", "report"])]
    dry_run: bool,
    /// Output format
    #[arg(long, default_value = "table")]
    format: Format,
    /// JSON report [default: OUTPUT.report.json]
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    #[command(flatten)]
    engine: EngineArguments,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let (output, report) = outputs(arguments)?;
    let is_trained = arguments.auto_bits.is_some() || arguments.training.is_given() || arguments.images.is_some();
    let config = arguments.model.config(arguments.model.plan.worthwhile(is_trained))?;
    arguments.training.refuse_unused_players(&config.stages)?;
    let config = Config {
        training: match arguments.ranges {
            Ranges::Analytic if config.trains_where_needed && !config.stages.is_empty() => {
                arguments.training.within(BUDGET)?
            }
            Ranges::Analytic => arguments.training.settings(config.recipe)?,
            // Images are made in steps too.
            Ranges::Synthetic => arguments.training.plain_settings()?,
        },
        output: (!arguments.dry_run).then_some(output),
        report: (!arguments.dry_run).then_some(report),
        auto_bits: arguments.auto_bits.map(|average| Request { average, candidates: candidates(arguments) }),
        sensitivity: arguments.sensitivity,
        synthesis: synthesis::Options { images: images(arguments, &config)?, ..config.synthesis },
        data: arguments.data.clone().zip(Some(arguments.model.preprocess()?)),
        ranges: arguments.ranges,
        thresholds: arguments.thresholds.thresholds(),
        keep_failed: arguments.keep_failed,
        external_data: arguments.external_data,
        ..config
    };
    let engines = arguments.engine.start()?;
    let report = quantize(&config, &engines, &mut Reporter::start()?)?;
    match arguments.format {
        Format::Table => print_text(&render(&report))?,
        Format::Json => print(&json(&report)?)?,
    }
    Ok(exit_code(&report, arguments))
}

/// Returns the paths of the model and the report, both of them writable.
fn outputs(arguments: &Arguments) -> crate::Result<(PathBuf, PathBuf)> {
    let model = &arguments.model.model;
    let (weight_bits, activation_bits) = arguments.model.plan.bits();
    let precision = match arguments.auto_bits {
        Some(average) => format!("auto{average}a{activation_bits}"),
        None => format!("w{weight_bits}a{activation_bits}"),
    };
    let output = arguments.output.clone().unwrap_or_else(|| model.with_extension(format!("{precision}.onnx")));
    let report = arguments.report.clone().unwrap_or_else(|| output.with_extension("report.json"));
    if arguments.dry_run {
        return Ok((output, report));
    }
    let sources = arguments.engine.with_libraries(arguments.model.sources().and("--data", arguments.data.as_ref()));
    let folders = arguments.training.folders();
    if arguments.keep_failed {
        destinations(&sources, &folders, [&failed_name(&output)])?;
    }
    let [output, report] = destinations(&sources, &folders, [&output, &report])?;
    Ok((output, report))
}

/// Returns the number of images to synthesize.
fn images(arguments: &Arguments, config: &Config) -> anyhow::Result<usize> {
    let Some(images) = arguments.images else { return Ok(config.synthesis.images) };
    if !config.recipe.wants_images && arguments.ranges == Ranges::Analytic {
        let message =
            format!("--images: recipe \"{}\" makes none; --ranges synthetic finds ranges on some", config.recipe.name);
        return Err(Error::Usage(message).into());
    }
    Ok(usize::try_from(images)?)
}

fn candidates(arguments: &Arguments) -> Vec<u32> {
    match arguments.bit_candidates.as_slice() {
        [] => CANDIDATES.to_vec(),
        given => given.to_vec(),
    }
}

/// Reports missed checks and thresholds on stderr, and returns the exit code.
fn exit_code(report: &Report, arguments: &Arguments) -> u8 {
    let mut failed = false;
    if let Some(verification) = &report.verification {
        failed |= missed(verification.checks.iter().chain(&verification.gates));
        if !verification.passed() {
            say("missed: no model was written under the name asked for (--keep-failed keeps it)");
            failed = true;
        }
    }
    if let (Some(limit), Some(comparison)) = (arguments.max_drop, &report.evaluation) {
        let [float, quantized, _] = comparison.percentages();
        let drop = float - quantized;
        if drop > limit {
            say(&format!("missed: accuracy drops by {drop:.2} points, at most {limit} allowed"));
            failed = true;
        }
    }
    // A file that was not written needs no verdict to fail.
    let judged = report.judgement.as_ref().filter(|_| report.output.is_some());
    failed |= judged.is_some_and(|judgement| arguments.thresholds.refuses(judgement));
    if failed { 4 } else { 0 }
}

fn average(text: &str) -> Result<f64, String> {
    let value = text.trim().parse::<f64>().ok().filter(|bits| (2.0..=8.0).contains(bits));
    value.ok_or_else(|| "expected an average from 2 to 8 bits, such as 4 or 3.5".to_owned())
}
