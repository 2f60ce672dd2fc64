//! `dfq-onnx sensitivity`.

use clap::Args;

use super::arguments::{EngineArguments, whole};
use super::model::ModelArguments;
use super::plan::Effort;
use super::progress::Reporter;
use super::{Format, print, print_text};
use crate::pipeline::rank_layers;
use crate::report::{json, render_ranking};

#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    /// Print only the first K rows, and flags for their layers
    #[arg(long, value_name = "K", value_parser = whole(1..=1_000_000_000u32))]
    top: Option<u32>,
    /// Output format
    #[arg(long, default_value = "table")]
    format: Format,
    #[command(flatten)]
    engine: EngineArguments,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let config = arguments.model.config(Effort::Fast)?;
    let engines = arguments.engine.start()?;
    let ranking = rank_layers(&config, &engines, &mut Reporter::start()?)?;
    let ranking = ranking.of_first(arguments.top.map(usize::try_from).transpose()?);
    match arguments.format {
        Format::Table => print_text(&render_ranking(&ranking))?,
        Format::Json => print(&json(&ranking)?)?,
    }
    Ok(0)
}
