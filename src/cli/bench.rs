//! `dfq-onnx bench`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use serde::Serialize;

use super::arguments::{EngineArguments, whole};
use super::model::watched;
use super::shapes::ShapeArguments;
use super::{Format, print_document, print_text};
use crate::data::{Dataset, Feeds, Preprocess};
use crate::error::{Error, Result};
use crate::ir::Tensor;
use crate::onnx;
use crate::runtime::machine::Machine;
use crate::runtime::{Engine, Session, SessionOptions};
use crate::stats::{guess_input, read_batch_norms};

/// Untimed runs of each model.
const WARM_UP: usize = 3;

#[derive(Args)]
pub(super) struct Arguments {
    /// The models; ratios are against the first
    #[arg(required = true)]
    models: Vec<PathBuf>,
    /// Inputs (.npz or .npy) to run on, in place of synthetic ones; the first ones are used. One array per input of a
    /// model, by name, or images
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    #[command(flatten)]
    shapes: ShapeArguments,
    /// Number of timed runs of each model
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = whole(1..=1_000_000u32))]
    runs: u32,
    /// Samples per run, where the model does not fix its batch
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = whole(1..=u16::MAX))]
    batch: u16,
    /// Output format
    #[arg(long, default_value = "table")]
    format: Format,
    /// One thread by default
    #[command(flatten)]
    engine: EngineArguments,
}

#[derive(Serialize)]
struct Timings {
    engine: String,
    threads: usize,
    processor: Option<String>,
    features: Vec<&'static str>,
    missing_features: Vec<&'static str>,
    models: Vec<Timing>,
}

#[derive(Serialize)]
struct Timing {
    #[serde(serialize_with = "crate::shown::path")]
    model: PathBuf,
    bytes: u64,
    batch: usize,
    milliseconds_median: f64,
    milliseconds_p10: f64,
    milliseconds_p90: f64,
    /// The first model's median divided by this one's.
    speedup: f64,
}

struct Subject {
    session: Box<dyn Session>,
    inputs: Vec<Tensor>,
    milliseconds: Vec<f64>,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let watched = watched(&arguments.models, arguments.data.as_ref());
    let engines = arguments.engine.start_single()?;
    let mut subjects = Vec::with_capacity(arguments.models.len());
    let data = arguments.data.as_deref().map(Dataset::read).transpose()?;
    for model in &arguments.models {
        subjects.push(prepare(model, engines.main(), arguments, data.as_ref())?);
    }
    for i in 0..WARM_UP + usize::try_from(arguments.runs)? {
        for subject in &mut subjects {
            let started = Instant::now();
            subject.session.run(&subject.inputs)?;
            if i >= WARM_UP {
                subject.milliseconds.push(1e3 * started.elapsed().as_secs_f64());
            }
        }
    }
    watched.check()?;
    let machine = Machine::examine();
    let [_, reference, _] = percentiles(&subjects[0].milliseconds);
    let timing = |(model, subject): (&PathBuf, &Subject)| -> Result<Timing> {
        let [p10, median, p90] = percentiles(&subject.milliseconds);
        Ok(Timing {
            model: model.clone(),
            bytes: onnx::stored_bytes(model)?,
            batch: subject.inputs.first().and_then(|t| t.shape().first().copied()).unwrap_or(1),
            milliseconds_median: median,
            milliseconds_p10: p10,
            milliseconds_p90: p90,
            speedup: reference / median,
        })
    };
    let timings = Timings {
        engine: engines.main().name(),
        threads: if engines.ort.is_some() { engines.threads } else { 1 },
        processor: machine.processor,
        features: machine.features,
        missing_features: machine.missing_features,
        models: arguments.models.iter().zip(&subjects).map(timing).collect::<Result<_>>()?,
    };
    match arguments.format {
        Format::Json => print_document(&timings)?,
        Format::Table => print_text(&table(&timings))?,
    }
    Ok(0)
}

fn prepare(model: &Path, engine: &dyn Engine, arguments: &Arguments, data: Option<&Dataset>) -> Result<Subject> {
    let mut graph = onnx::load(model)?;
    arguments.shapes.set_where_present(&mut graph)?;
    let (described, batch) = (arguments.shapes.described(&graph)?, usize::from(arguments.batch));
    let inputs = match data {
        Some(data) => first_of(&data.feeds(&described, &Preprocess::default())?, graph.fixed_batch().unwrap_or(batch))?,
        None => guess_input(&graph, &read_batch_norms(&graph)).synthetic(&described, batch, 0, 1)?,
    };
    if inputs.is_empty() {
        return Err(Error::malformed(model.display().to_string(), "takes no input"));
    }
    let session = engine.load(&graph, &SessionOptions { prepacking: true, ..SessionOptions::default() })?;
    Ok(Subject { session, inputs, milliseconds: Vec::new() })
}

/// Returns the inputs of the first `batch` samples.
fn first_of(feeds: &Feeds, batch: usize) -> Result<Vec<Tensor>> {
    match feeds.samples() {
        // Arrays that have no samples in common are one run.
        None => feeds.all(),
        Some(samples) if samples < batch => {
            let message = format!("holds {samples} sample(s), {batch} go into one run; give a smaller --batch");
            Err(Error::Usage(format!("{}: {message}", feeds.place())))
        }
        Some(_) => feeds.batch(0..batch),
    }
}

/// Returns the 10th, 50th and 90th percentile of `values`, of which there is one at least.
fn percentiles(values: &[f64]) -> [f64; 3] {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    [10, 50, 90].map(|p| sorted[(sorted.len() - 1) * p / 100])
}

fn table(timings: &Timings) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["model", "MB", "batch", "median ms", "p10", "p90", "speed"]);
    for t in &timings.models {
        table.add_row([
            t.model.display().to_string(),
            format!("{:.2}", t.bytes as f64 / 1e6),
            t.batch.to_string(),
            format!("{:.3}", t.milliseconds_median),
            format!("{:.3}", t.milliseconds_p10),
            format!("{:.3}", t.milliseconds_p90),
            format!("{:.2} x", t.speedup),
        ]);
    }
    let missing = match timings.missing_features.as_slice() {
        [] => String::new(),
        missing => format!("; not there: {}", missing.join(", ")),
    };
    let processor = timings.processor.as_deref().unwrap_or("unknown processor");
    let features = timings.features.join(", ");
    format!("{table}\n{}, {} thread(s); {processor} ({features}{missing})", timings.engine, timings.threads)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_seen() {
        assert_eq!(percentiles(&[5.0]), [5.0; 3]);
        let values: Vec<f64> = (0..=10).rev().map(f64::from).collect();
        assert_eq!(percentiles(&values), [1.0, 5.0, 9.0]);
    }
}
