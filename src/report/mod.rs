//! Reports: data with a schema version, and tables.

mod coverage;
mod curves;
mod inputs;
mod inspection;
mod layout;
mod ranking;
mod sheet;
mod summary;
mod synthesis;
mod text;
mod verification;
mod warning;

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

pub use coverage::{render_audit, with_plan};
pub use curves::{Curve, curves};
pub use inspection::{InspectOptions, Inspection, inspect, render_inspection};
pub use ranking::{Ranking, render_auto_bits, render_ranking};
pub use sheet::sheet;
pub use summary::{
    aside_warning, branch_warning, container, conversion, few_bits, float_copies, frozen_warning, images_warning,
    layer_costs, left_out_warnings, ranges, saturation_warnings, stored_bits, training_warnings, warnings,
};
pub use synthesis::{SynthesisDocument, loss_curves, render_synthesis, synthesis_warnings};
pub use text::render;
pub use verification::{render_judgement, render_verification};
pub use warning::Warning;

use crate::audit::Audit;
use crate::error::{Error, Result};
use crate::files::{self, Staged};
use crate::layers::LayerStep;
use crate::plan::{ContainerChoice, Plan};
use crate::sensitivity::{AutoBits, Sensitivity};
use crate::solution::RangeSource;
use crate::stats::{InputStatistics, KnownInput};
use crate::synthesis::SynthesisReport;
use crate::train::{HeldOut, StageReport};
use crate::verdict::{Judgement, Labels};
use crate::verify::Verification;

/// The version of the JSON schema; raised when a field changes its meaning or is removed.
pub const SCHEMA_VERSION: u32 = 1;

/// Returns name and version of this program.
pub fn tool() -> String {
    format!("{} {}", env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
}

/// Returns a document as JSON.
///
/// # Errors
/// [`Error::Malformed`] for maps with keys other than text.
pub fn json(document: &impl Serialize) -> Result<String> {
    serde_json::to_string_pretty(document).map_err(|e| Error::malformed("report", e.to_string()))
}

/// Writes a document as JSON to a temporary file, which replaces the file at `path` once it is published.
///
/// # Errors
/// [`Error::Write`].
pub(crate) fn stage(document: &impl Serialize, path: &Path) -> Result<Staged> {
    let json = json(document)?;
    files::stage(path, |file| file.write_all(json.as_bytes()))
}

/// Inputs that the user handed over.
#[derive(Clone, Debug, Serialize)]
pub struct Data {
    /// The file.
    #[serde(serialize_with = "crate::shown::path")]
    pub file: PathBuf,
    /// Samples in it.
    pub samples: usize,
    /// How many of them nothing was found or trained on, so that figures are of unseen inputs.
    pub held_out: usize,
}

impl Data {
    /// Returns the data of a file: the numbers of its samples and of held-out ones.
    pub fn of(file: &Path, [samples, held_out]: [usize; 2]) -> Self {
        Self { file: file.to_owned(), samples, held_out }
    }
}

/// The report of `quantize`.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Name and version of this program.
    pub tool: String,
    /// The float model.
    #[serde(serialize_with = "crate::shown::path")]
    pub model: PathBuf,
    /// The quantized model; none in a dry run or where a hard check failed.
    #[serde(serialize_with = "crate::shown::some_path")]
    pub output: Option<PathBuf>,
    /// The recipe's name.
    pub recipe: &'static str,
    /// Everything random follows from it.
    pub seed: u64,
    /// The device that ran float graphs.
    pub device: String,
    /// The engines that ran, with versions.
    pub engines: Vec<String>,
    /// What normalising the graph changed.
    pub passes: Vec<(&'static str, usize)>,
    /// BatchNormalization nodes with statistics, and how many of them were folded.
    pub batch_norms: usize,
    /// Tensors with statistics from a separate file; they are not counted as BatchNormalization.
    pub statistics_given: usize,
    /// See [`Report::batch_norms`].
    pub batch_norms_folded: usize,
    /// The network's input: images, or where it is fed none, features.
    pub input: InputStatistics,
    /// What is known of each input, and how surely.
    pub inputs: Vec<KnownInput>,
    /// Placement.
    pub plan: Plan,
    /// One entry per activation grid of the plan.
    pub ranges: Vec<Range>,
    /// One entry per quantized layer of the plan.
    pub layers: Vec<LayerCost>,
    /// The storage type of weights, and the size with the other type.
    pub container: ContainerChoice,
    /// The steps of the recipe at single layers besides rounding, and the rejected ones with reasons.
    pub steps: Vec<LayerStep>,
    /// What runs in integers, and why the rest does not.
    pub audit: Audit,
    /// What the user handed over, which ranges were found and training was done on.
    pub data: Option<Data>,
    /// The synthesis of images, where ranges or training used any.
    pub synthesis: Option<SynthesisReport>,
    /// The figures of the result without training, where they made training unnecessary.
    pub sufficient: Option<String>,
    /// What was trained, stage by stage.
    pub training: Vec<StageReport>,
    /// The comparison of the result trained on synthetic images with the recipe's solution without them.
    pub against_start: Option<HeldOut>,
    /// How bits were chosen, where that was asked for.
    pub auto_bits: Option<AutoBits>,
    /// What quantizing each layer costs, where that was asked for.
    pub sensitivity: Option<Sensitivity>,
    /// Bytes of the float file and of the quantized one.
    pub bytes: Bytes,
    /// The checks.
    pub verification: Option<Verification>,
    /// Accuracy on the user's labeled images, if given.
    pub evaluation: Option<Comparison>,
    /// What is to be thought of the quantized model; none in a dry run.
    #[serde(flatten)]
    pub judgement: Option<Judgement>,
    /// What the user should know.
    pub warnings: Vec<Warning>,
    /// Stage and seconds.
    pub seconds: Vec<(&'static str, f64)>,
}

impl Report {
    /// Returns whether the kind or range of an input is a guess.
    pub fn rests_on_a_guess(&self) -> bool {
        !self.plan.weights.is_empty() && self.inputs.iter().any(|known| known.is_guess)
    }
}

/// A range and where it came from.
#[derive(Clone, Debug, Serialize)]
pub struct Range {
    /// The first tensor on the grid.
    pub tensor: String,
    /// Bits of the grid.
    pub bits: u32,
    /// Smallest value represented.
    pub lo: f32,
    /// Largest value represented.
    pub hi: f32,
    /// Where it came from.
    pub source: RangeSource,
}

/// Size and work of a quantized layer.
#[derive(Clone, Debug, Serialize)]
pub struct LayerCost {
    /// The layer.
    pub name: String,
    /// The operator.
    pub op_type: String,
    /// Bits of its weight; none where both operands are activations.
    pub weight_bits: Option<u32>,
    /// Bits of its input; none where the weight alone is quantized.
    pub input_bits: Option<u32>,
    /// Bytes of the float weight and of the quantized one.
    pub weight_bytes: Option<Bytes>,
    /// Multiply-accumulates per sample, where shapes are known.
    pub macs: Option<u64>,
    /// Signal to quantization noise of the weight alone, in dB; none for an all-zero or exact weight.
    pub weight_sqnr: Option<f64>,
}

/// Sizes before and after.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Bytes {
    /// Before.
    pub float: u64,
    /// After.
    pub quantized: u64,
}

/// Two models on the same labeled images.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The labeled images.
    #[serde(serialize_with = "crate::shown::path")]
    pub data: PathBuf,
    /// How many there are.
    pub images: usize,
    /// How many the float model gets right.
    pub float_correct: usize,
    /// How many the quantized model gets right.
    pub quantized_correct: usize,
    /// How many the float model alone gets right.
    pub lost: usize,
    /// How many the quantized model alone gets right.
    pub gained: usize,
    /// The number of images on which both predict the same class.
    pub agreeing: usize,
}

impl Comparison {
    /// Returns the counts that a verdict rests on.
    pub fn labels(&self) -> Labels {
        Labels { images: self.images, lost: self.lost, gained: self.gained }
    }

    /// Returns top-1 of the float model, of the quantized one, and their agreement, in percent.
    pub fn percentages(&self) -> [f64; 3] {
        [self.float_correct, self.quantized_correct, self.agreeing]
            .map(|n| 100.0 * n as f64 / self.images.max(1) as f64)
    }
}
