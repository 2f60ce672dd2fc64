//! `dfq-onnx synth`.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use super::arguments::{EngineArguments, positive, whole};
use super::destination::destinations;
use super::model::GraphArguments;
use super::preprocess::InputArguments;
use super::training::TrainingArguments;
use super::{Format, print, print_text};
use crate::data::npz_bytes;
use crate::error::Result;
use crate::files::{self, Staged};
use crate::ir::Tensor;
use crate::pipeline::{Config, make_inputs};
use crate::report::{self, SynthesisDocument, json, loss_curves, render_synthesis, sheet};
use crate::synthesis::{Options, SyntheticImages, TERMS};

#[derive(Args)]
pub(super) struct Arguments {
    /// The float model
    model: PathBuf,
    #[command(flatten)]
    images: ImageArguments,
    /// Output file (.npz); a contact sheet (.png), loss curves (.svg) and a report (.report.json) are written beside it
    /// [default: MODEL.synthetic.npz]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    training: TrainingArguments,
    #[command(flatten)]
    graph: GraphArguments,
    #[command(flatten)]
    input: InputArguments,
    /// Seed of all random numbers
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = whole(0..=u64::MAX))]
    seed: u64,
    /// Print batch, memory and loss terms, and generate nothing
    #[arg(long)]
    dry_run: bool,
    /// Output format
    #[arg(long, default_value = "table")]
    format: Format,
    #[command(flatten)]
    engine: EngineArguments,
}

/// The options of image synthesis.
#[derive(Args)]
pub(super) struct ImageArguments {
    /// Number of images
    #[arg(short = 'n', long, value_name = "N", default_value_t = Options::default().images, value_parser = images)]
    images: usize,
    /// Weight of a loss term in place of its default; 0 leaves it out (repeatable)
    #[arg(long, value_name = "NAME=WEIGHT", value_parser = weight, long_help = terms())]
    loss: Vec<(String, f64)>,
    /// Assign a class to each image, uniformly (the default where the model has class scores)
    #[arg(long)]
    conditional: bool,
    /// Assign no classes
    #[arg(long, conflicts_with = "conditional")]
    unconditional: bool,
    /// Do not shift the inputs of strided convolutions by up to a pixel (swing convolution)
    #[arg(long)]
    no_swing: bool,
    /// Do not flip or shift images while they are optimized
    #[arg(long)]
    no_augment: bool,
    /// Smooth images by a Gaussian of this many pixels
    #[arg(long, value_name = "PIXELS", value_parser = positive)]
    low_pass: Option<f32>,
}

impl ImageArguments {
    /// Returns what these flags and those of training say.
    pub(super) fn options(&self, steps: Option<u64>, learning_rate: Option<f64>) -> Options {
        let usual = Options::default();
        Options {
            images: self.images,
            steps: steps.unwrap_or(usual.steps),
            learning_rate: learning_rate.unwrap_or(usual.learning_rate),
            loss: self.loss.clone(),
            conditional: (self.conditional || self.unconditional).then_some(self.conditional),
            swing: !self.no_swing,
            augment: !self.no_augment,
            low_pass: self.low_pass.map_or(0.0, f64::from),
        }
    }
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let output = arguments.output.clone().unwrap_or_else(|| arguments.model.with_extension("synthetic.npz"));
    let beside = ["png", "svg", "report.json"].map(|extension| output.with_extension(extension));
    let [output, sheet, curves, report] = match arguments.dry_run {
        true => [&output, &beside[0], &beside[1], &beside[2]].map(PathBuf::clone),
        false => {
            let sources = arguments.engine.with_libraries(arguments.graph.sources(&arguments.model));
            destinations(&sources, &arguments.training.folders(), [&output, &beside[0], &beside[1], &beside[2]])?
        }
    };
    let settings = arguments.training.plain_settings()?;
    let config = Config {
        output: (!arguments.dry_run).then(|| output.clone()),
        synthesis: arguments.images.options(settings.steps, settings.learning_rate),
        training: settings,
        input_shapes: arguments.graph.input_shape.clone(),
        set_inputs: arguments.graph.set_input.clone(),
        statistics: arguments.graph.bn_stats.clone(),
        input: arguments.input.input()?,
        seed: arguments.seed,
        ..Config::of_model(&arguments.model)
    };
    let engines = arguments.engine.start()?;
    let mut observer = super::progress::Reporter::start()?;
    let (made, mut document) = make_inputs(&config, &engines, &mut observer)?;
    if !arguments.dry_run {
        write(&made, &mut document, [&output, &sheet, &curves, &report])?;
    }
    match arguments.format {
        Format::Table => print_text(&render_synthesis(&document))?,
        Format::Json => print(&json(&document)?)?,
    }
    Ok(0)
}

/// Writes the inputs, a sheet where they are images, curves of losses, and the report; all of them or none.
fn write(
    made: &SyntheticImages,
    document: &mut SynthesisDocument,
    [output, image, drawing, report]: [&Path; 4],
) -> Result<()> {
    let stage = |path: &Path, contents: &[u8]| files::stage(path, |file| file.write_all(contents));
    let answers = document.synthesis.answers.as_ref();
    let classes = answers.map(|answers| {
        let classes: Vec<i64> = answers.classes.iter().map(|&class| i64::try_from(class).unwrap_or(-1)).collect();
        Tensor::from_i64(&[classes.len()], &classes)
    });
    // Not "labels": nobody labeled them.
    let classes = classes.as_ref().map(|tensor| ("teacher_classes", tensor));
    let inputs = made.names.iter().map(String::as_str).zip(&made.inputs);
    let arrays: Vec<(&str, &Tensor)> = inputs.chain(classes).collect();
    let mut staged = vec![stage(output, &npz_bytes(&arrays)?)?];
    document.output = Some(output.to_owned());
    if let Some(images) = made.images.as_ref().filter(|images| images.shape().len() == 4) {
        staged.push(stage(image, &sheet(images, &document.input)?)?);
        document.sheet = Some(image.to_owned());
    }
    if let Ok(drawn) = loss_curves(&document.synthesis) {
        staged.push(stage(drawing, drawn.as_bytes())?);
        document.curves = Some(drawing.to_owned());
    }
    staged.push(report::stage(document, report)?);
    staged.into_iter().try_for_each(Staged::publish)
}

fn images(text: &str) -> Result<usize, String> {
    let images = text.parse::<usize>().ok().filter(|n| (1..=1_000_000).contains(n));
    images.ok_or_else(|| "expected a number of images from 1 to 1000000".to_owned())
}

fn weight(text: &str) -> Result<(String, f64), String> {
    let refused = || "expected NAME=WEIGHT, such as tv=0.1".to_owned();
    let (name, weight) = text.split_once('=').ok_or_else(refused)?;
    let weight = weight.trim().parse::<f64>().ok().filter(|w| w.is_finite() && *w >= 0.0).ok_or_else(refused)?;
    Ok((name.trim().to_owned(), weight))
}

fn terms() -> String {
    let row = |term: &crate::synthesis::Term| {
        let [with, without] = term.weights;
        format!("  {:<17} {with:>4} {without:>4}  {}", term.name, term.summary)
    };
    let rows: Vec<String> = TERMS.iter().map(row).collect();
    format!(
        "Weight of a loss term in place of its default; 0 removes the term (repeatable). Terms, with their weights \
         where the model has statistics of batch normalisation and where it has none:\n{}",
        rows.join("\n")
    )
}
