//! `dfq-onnx sensitivity`.

use std::path::PathBuf;

use clap::Args;

use super::arguments::{EngineArguments, PreprocessArguments, input_shape, interval};
use super::plan::PlanArguments;
use super::{Format, print, show_stage};
use crate::pipeline::{Config, rank_layers};
use crate::report::render_ranking;
use crate::stats::InputStatistics;

#[derive(Args)]
pub(super) struct Arguments {
    /// The float model
    model: PathBuf,
    #[command(flatten)]
    plan: PlanArguments,
    /// Fix the shape of an input (repeatable)
    #[arg(long, value_name = "NAME:1x3x224x224", value_parser = input_shape)]
    input_shape: Vec<(String, Vec<usize>)>,
    /// Smallest and largest value that the model is fed
    #[arg(long, value_name = "LO:HI", value_parser = interval, allow_hyphen_values = true)]
    input_range: Option<(f64, f64)>,
    /// Labelled images (.npz with "images" and "labels"): the table also shows accuracy, which takes two passes a row
    #[arg(long, value_name = "FILE")]
    eval: Option<PathBuf>,
    #[command(flatten)]
    preprocess: PreprocessArguments,
    /// Synthetic inputs to measure on [default: 64, fewer above 31 million multiply-accumulates, 8 at least]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    samples: Option<u32>,
    /// Everything random follows from it
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Print the first K rows only
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    top: Option<u32>,
    /// How the ranking is printed
    #[arg(long, default_value = "table")]
    format: Format,
    #[command(flatten)]
    engine: EngineArguments,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let config = Config {
        model: arguments.model.clone(),
        output: None,
        recipe: arguments.plan.recipe()?,
        policy: arguments.plan.policy(),
        auto_bits: None,
        sensitivity: true,
        input_shapes: arguments.input_shape.clone(),
        input: match arguments.input_range {
            Some((lo, hi)) => Some(InputStatistics::of_interval(lo, hi)),
            None => arguments.preprocess.input(),
        },
        seed: arguments.seed,
        statistics: None,
        samples: arguments.samples.map(usize::try_from).transpose()?,
        evaluation: arguments.eval.clone().map(|file| (file, arguments.preprocess.preprocess())),
        min_agreement: None,
        min_sqnr: None,
        min_coverage: None,
        keep_failed: false,
        external_data: false,
    };
    let engines = arguments.engine.start()?;
    let mut ranking = rank_layers(&config, &engines, &mut show_stage)?;
    if let Some(top) = arguments.top {
        ranking.sensitivity.shares.truncate(usize::try_from(top)?);
    }
    match arguments.format {
        Format::Table => print(&render_ranking(&ranking))?,
        Format::Json => print(&serde_json::to_string_pretty(&ranking)?)?,
    }
    Ok(0)
}
