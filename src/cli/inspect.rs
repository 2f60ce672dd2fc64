//! `dfq-onnx inspect`.

use std::path::PathBuf;

use clap::Args;

use super::arguments::{EngineArguments, input_shape};
use super::{Format, print};
use crate::report::{inspect, render_inspection};

#[derive(Args)]
pub(super) struct Arguments {
    /// The model
    model: PathBuf,
    /// Fix the shape of an input (repeatable)
    #[arg(long, value_name = "NAME:1x3x224x224", value_parser = input_shape)]
    input_shape: Vec<(String, Vec<usize>)>,
    /// How results are printed
    #[arg(long, default_value = "table")]
    format: Format,
    #[command(flatten)]
    engine: EngineArguments,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let engines = arguments.engine.start()?;
    let inspection = inspect(&arguments.model, &arguments.input_shape, engines.main())?;
    match arguments.format {
        Format::Json => print(&serde_json::to_string_pretty(&inspection)?)?,
        Format::Table => print(&render_inspection(&inspection))?,
    }
    Ok(0)
}
