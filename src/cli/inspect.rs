//! `dfq-onnx inspect`.

use std::path::PathBuf;

use clap::Args;

use super::arguments::EngineArguments;
use super::destination::destinations;
use super::model::GraphArguments;
use super::{Format, print, print_text};
use crate::error::Error;
use crate::pipeline::checkers;
use crate::report::{self, InspectOptions, inspect, json, render_inspection};

#[derive(Args)]
pub(super) struct Arguments {
    /// The model
    model: PathBuf,
    #[command(flatten)]
    graph: GraphArguments,
    /// Write the batch-normalization statistics as JSON, for --bn-stats with a model that was folded
    #[arg(long, value_name = "FILE")]
    bn_stats_out: Option<PathBuf>,
    /// Output format
    #[arg(long, default_value = "table")]
    format: Format,
    #[command(flatten)]
    engine: EngineArguments,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let sources = arguments.engine.with_libraries(arguments.graph.sources(&arguments.model));
    let statistics = arguments.bn_stats_out.as_ref().map(|path| destinations(&sources, &[], [path])).transpose()?;
    let engines = arguments.engine.start()?;
    let GraphArguments { input_shape, set_input, bn_stats } = &arguments.graph;
    let checkers = checkers(&engines);
    let options = InspectOptions { input_shapes: input_shape, set_inputs: set_input, statistics: bn_stats.as_deref() };
    let inspection = inspect(&arguments.model, &options, engines.main(), &checkers)?;
    if let Some([path]) = &statistics {
        if inspection.statistics.is_empty() {
            let place = arguments.model.display().to_string();
            return Err(Error::unsupported(place, "has no statistics to write").into());
        }
        report::stage(&inspection.statistics, path)?.publish()?;
    }
    match arguments.format {
        Format::Json => print(&json(&inspection)?)?,
        Format::Table => print_text(&render_inspection(&inspection))?,
    }
    Ok(0)
}
