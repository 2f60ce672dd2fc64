//! The report of `synth`, as data and as text.

use std::path::PathBuf;

use serde::Serialize;

use super::Warning;
use super::curves::{Curve, curves};
use super::inputs::input;
use super::layout::{add_row, paragraph, table};
use crate::error::Result;
use crate::stats::{InputSource, InputStatistics};
use crate::synthesis::{Answers, SynthesisReport};

/// Columns of the histogram of classes in characters.
const BAR: usize = 40;
/// Classes that are shown one by one.
const CLASSES: usize = 20;

/// The report of `synth`.
#[derive(Clone, Debug, Serialize)]
pub struct SynthesisDocument {
    /// [`SCHEMA_VERSION`](super::SCHEMA_VERSION).
    pub schema_version: u32,
    /// Name and version of this program.
    pub tool: String,
    /// The float model.
    #[serde(serialize_with = "crate::shown::path")]
    pub model: PathBuf,
    /// The file of inputs; none in a dry run.
    #[serde(serialize_with = "crate::shown::some_path")]
    pub output: Option<PathBuf>,
    /// The sheet of images, where the network takes images.
    #[serde(serialize_with = "crate::shown::some_path")]
    pub sheet: Option<PathBuf>,
    /// The curves of losses.
    #[serde(serialize_with = "crate::shown::some_path")]
    pub curves: Option<PathBuf>,
    /// Everything random follows from it.
    pub seed: u64,
    /// The device that steps ran on.
    pub device: String,
    /// What ran the steps.
    pub engine: String,
    /// The network's input.
    pub input: InputStatistics,
    /// How inputs came about.
    pub synthesis: SynthesisReport,
    /// What the user should know.
    pub warnings: Vec<Warning>,
    /// Stage and seconds.
    pub seconds: Vec<(&'static str, f64)>,
}

/// Returns the warnings about synthesized inputs.
pub fn synthesis_warnings(synthesis: &SynthesisReport, input: &InputStatistics) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if input.source == InputSource::Assumed {
        warnings.push(Warning::InputAssumed { lo: input.lo, hi: input.hi });
    }
    if synthesis.layers == 0 {
        let terms = synthesis.weights.iter().map(|(name, _)| (*name).to_owned()).collect();
        warnings.push(Warning::ImagesWithoutStatistics { terms });
    }
    if !synthesis.blocked.is_empty() {
        warnings.push(Warning::StatisticsOutOfReach { operators: synthesis.blocked.clone() });
    }
    warnings
}

/// Returns the curves of all losses of all generators.
///
/// # Errors
/// Where there is nothing to draw.
pub fn loss_curves(synthesis: &SynthesisReport) -> Result<String> {
    let several = synthesis.generators.len() > 1;
    let generators = synthesis.generators.iter().enumerate();
    let lines = generators.flat_map(|(i, generator)| {
        // A loss of a single term is that term.
        let skipped = usize::from(generator.losses.len() == 2);
        generator.losses.iter().skip(skipped).map(move |(name, values)| Curve {
            name: if several { format!("{name}, generator {}", i + 1) } else { name.clone() },
            values: values.clone(),
        })
    });
    curves("losses of generators", &lines.collect::<Vec<_>>())
}

/// Returns the report as text.
pub fn render_synthesis(document: &SynthesisDocument) -> String {
    let SynthesisDocument { synthesis, input: fed, .. } = document;
    let show = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let written: Vec<String> =
        [&document.output, &document.sheet, &document.curves].into_iter().filter_map(show).collect();
    let written = if written.is_empty() { "(nothing written)".to_owned() } else { written.join(", ") };
    let mut parts =
        vec![format!("{} -> {written}\nseed {}, engine: {}", document.model.display(), document.seed, document.engine)];
    let terms: Vec<String> = synthesis.weights.iter().map(|(name, weight)| format!("{weight} {name}")).collect();
    let [teacher, generator] = synthesis.macs;
    let millions = |macs: u64| macs as f64 / 1e6;
    let lines = [
        paragraph("input", &input(fed)),
        paragraph(
            "images",
            &format!(
                "{}, learning rate {}; {:.1} million multiply-accumulates per image, the network {:.1}; about {} MB per step",
                asked(synthesis),
                synthesis.options.learning_rate,
                millions(generator),
                millions(teacher),
                synthesis.step_bytes.div_ceil(1_000_000)
            ),
        ),
        paragraph("loss", &format!("{}; statistics of {} layers", terms.join(" + "), synthesis.layers)),
    ];
    parts.push(lines.join("\n"));
    parts.extend((!synthesis.generators.is_empty()).then(|| losses(synthesis)));
    parts.extend(synthesis.answers.as_ref().map(answers));
    let warnings: Vec<String> = document.warnings.iter().map(|w| paragraph("warning:", &w.to_string())).collect();
    parts.push(warnings.join("\n"));
    parts.join("\n\n").trim_end().to_owned() + "\n"
}

/// Returns the requested numbers of images and steps.
pub(super) fn asked(synthesis: &SynthesisReport) -> String {
    let SynthesisReport { options, batch, .. } = synthesis;
    format!("{} by generators of {batch} each, {} steps", options.images, options.steps)
}

/// Returns the table of losses: at the beginning and at the end of each generator.
fn losses(synthesis: &SynthesisReport) -> String {
    let mut table = table(&["generator", "loss"], &["steps", "first", "last"]);
    for (i, generator) in synthesis.generators.iter().enumerate() {
        for (name, values) in &generator.losses {
            let value = |v: Option<&f32>| v.map_or("-".to_owned(), |v| format!("{v:.4}"));
            add_row(
                &mut table,
                [
                    (i + 1).to_string(),
                    name.clone(),
                    generator.steps.to_string(),
                    value(values.first()),
                    value(values.last()),
                ],
            );
        }
    }
    table.trim_fmt()
}

/// Returns the teacher's predictions on the images.
fn answers(answers: &Answers) -> String {
    let most = answers.histogram.iter().copied().max().unwrap_or(0).max(1);
    let seen = answers.histogram.iter().filter(|&&n| n > 0).count();
    let spread =
        answers.spread.map_or(String::new(), |spread| format!(", mean cosine distance of features {spread:.3}"));
    let mut lines = vec![paragraph(
        "teacher",
        &format!(
            "predicts {seen} of {} classes, with a mean confidence of {:.3}{spread}",
            answers.histogram.len(),
            answers.confidence
        ),
    )];
    if answers.histogram.len() <= CLASSES {
        let row = |(class, &n): (usize, &usize)| format!("  class {class:>3} {n:>6} {}", "#".repeat(n * BAR / most));
        lines.extend(answers.histogram.iter().enumerate().map(row));
    }
    lines.join("\n")
}
