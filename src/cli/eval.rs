//! `dfq-onnx eval`.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::arguments::{EngineArguments, whole};
use super::model::watched;
use super::preprocess::InputArguments;
use super::scale::check_scale;
use super::shapes::ShapeArguments;
use super::{Format, print_document, print_text};
use crate::data::{Dataset, evaluate};
use crate::onnx;

#[derive(Args)]
pub(super) struct Arguments {
    /// The model, float or quantized
    model: PathBuf,
    /// Labeled images: .npz with "images" and "labels", or with an array for each input, by name, and "labels"
    data: PathBuf,
    #[command(flatten)]
    input: InputArguments,
    #[command(flatten)]
    shapes: ShapeArguments,
    /// Number of images to use, from the first [default: all]
    #[arg(long, value_name = "N", value_parser = whole(1..=1_000_000_000u32))]
    limit: Option<u32>,
    /// Images per run, where the model does not fix its batch
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = whole(1..=u16::MAX))]
    batch: u16,
    /// Output format
    #[arg(long, default_value = "table")]
    format: Format,
    #[command(flatten)]
    engine: EngineArguments,
}

#[derive(Serialize)]
struct Result {
    #[serde(serialize_with = "crate::shown::path")]
    model: PathBuf,
    #[serde(serialize_with = "crate::shown::path")]
    data: PathBuf,
    engine: String,
    images: usize,
    correct: usize,
    top1_percent: f64,
    correct_top5: Option<usize>,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let watched = watched([&arguments.model], Some(&arguments.data));
    let mut graph = onnx::load(&arguments.model)?;
    arguments.shapes.set_where_present(&mut graph)?;
    let graph = arguments.shapes.described(&graph)?;
    let mut data = Dataset::read_labelled(&arguments.data)?;
    if let Some(limit) = arguments.limit {
        data = data.first(usize::try_from(limit)?);
    }
    let preprocess = arguments.input.preprocess()?;
    check_scale(&data.labelled(&graph, &preprocess)?.0, &graph, &arguments.input)?;
    let engines = arguments.engine.start()?;
    let engine = engines.main();
    let found = evaluate(engine, &graph, &data, &preprocess, usize::from(arguments.batch))?;
    watched.check()?;
    let result = Result {
        model: arguments.model.clone(),
        data: arguments.data.clone(),
        engine: engine.name(),
        images: found.n,
        correct: found.correct,
        top1_percent: 100.0 * found.top1(),
        correct_top5: found.correct_top5,
    };
    match arguments.format {
        Format::Json => print_document(&result)?,
        Format::Table => {
            let top5 = result.correct_top5.map_or(String::new(), |n| format!(", {n} in the top 5"));
            print_text(&format!(
                "{}: {:.2} % top-1 ({} of {} correct{top5}) in {}",
                result.model.display(),
                result.top1_percent,
                result.correct,
                result.images,
                result.engine
            ))?;
        }
    }
    Ok(0)
}
