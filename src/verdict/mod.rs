//! The verdict on a quantized model: `good`, `doubtful` or `broken`, with its figures.
//!
//! Labels decide if available, then the user's own inputs, then synthetic ones. Thresholds were chosen by measurement:
//! `benches/README.md` has the table of figures against the real loss of top-1.

mod advice;
mod grade;
mod response;

use serde::Serialize;

pub use advice::Situation;
pub use grade::{Labels, grade};
pub use response::{Response, responses};

use crate::error::Result;
use crate::ir::{Graph, Tensor};
use crate::runtime::Engine;
use crate::stats::InputStatistics;
use crate::verify::{Check, split};

/// The most multiply-accumulates of one run of all samples.
const MACS: u64 = 10_000_000_000;
/// The numbers of samples, within [`MACS`].
const SAMPLES: std::ops::RangeInclusive<usize> = 32..=256;
/// The most values in the samples of an input.
const VALUES: usize = 1 << 25;
/// Samples in one run.
const BATCH: usize = 16;

/// The verdict on a quantized model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It lost the function of the float model.
    Broken,
    /// It may have lost accuracy, or too little is known.
    Doubtful,
    /// It keeps the function of the float model.
    Good,
}

impl Verdict {
    /// Returns the word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Broken => "broken",
            Self::Doubtful => "doubtful",
            Self::Good => "good",
        }
    }
}

/// The basis of a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VerdictSource {
    /// Labeled inputs.
    Labels,
    /// The user's own inputs without labels.
    Data,
    /// Synthetic inputs.
    Synthetic,
    /// A failed check, or nothing that could run.
    Checks,
}

/// A verdict with its figures.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// Its basis.
    #[serde(rename = "verdict_source")]
    pub source: VerdictSource,
    /// The number of inputs.
    #[serde(rename = "verdict_samples")]
    pub samples: usize,
    /// The figures, in words.
    #[serde(rename = "verdict_reason")]
    pub reason: String,
    /// The worst drop of top-1, in points, with the ends of its 95 % confidence interval, where labels decide.
    #[serde(rename = "verdict_drop")]
    pub drop: Option<[f64; 3]>,
    /// Every output's figures, where no labels decide.
    #[serde(rename = "verdict_outputs")]
    pub outputs: Vec<Response>,
    /// The command to try next, and why.
    #[serde(rename = "verdict_next")]
    pub next: String,
}

/// The inputs of a verdict.
pub struct Inputs {
    /// One tensor for each input of the model, samples first.
    pub tensors: Vec<Tensor>,
    /// Their source: [`VerdictSource::Data`] or [`VerdictSource::Synthetic`].
    pub source: VerdictSource,
    /// Whether the input statistics are a guess, so that synthetic inputs may lie outside the network's domain.
    pub is_guess: bool,
}

impl Inputs {
    /// Returns the user's own inputs.
    pub fn of_data(tensors: Vec<Tensor>) -> Self {
        Self { tensors, source: VerdictSource::Data, is_guess: false }
    }

    /// Returns synthetic inputs of strong contrast for `graph`, which takes `macs` multiply-accumulates a sample;
    /// `is_guess` is left to the caller.
    ///
    /// # Errors
    /// When an input's shape is not known.
    pub fn synthetic(graph: &Graph, macs: u64, input: &InputStatistics, seed: u64, threads: usize) -> Result<Self> {
        let vivid = input.of_strong_contrast();
        let largest = graph.fed_inputs().into_iter().map(|id| graph.value(id).sample_len()).max().unwrap_or(1);
        let affordable = usize::try_from(MACS / macs.max(1)).unwrap_or(usize::MAX);
        let samples = affordable.clamp(*SAMPLES.start(), *SAMPLES.end()).min((VALUES / largest.max(1)).max(1));
        let tensors = vivid.synthetic(graph, samples, seed, threads)?;
        Ok(Self { tensors, source: VerdictSource::Synthetic, is_guess: false })
    }
}

/// Returns the verdict on `quantized` by its responses to `inputs`, compared with `original` in the default session of
/// `engine`.
///
/// # Errors
/// When the engine refuses a model or fails to run it.
pub fn judge(original: &Graph, quantized: &Graph, engine: &dyn Engine, inputs: &Inputs) -> Result<Judgement> {
    let samples = Tensor::samples_of(&inputs.tensors);
    let batches = split(quantized, &inputs.tensors, samples, BATCH)?;
    Ok(grade::by_responses(responses(original, quantized, engine, &batches)?, samples, inputs))
}

/// Returns `broken` where one of the hard `checks` failed, else what `judge` returns.
///
/// # Errors
/// Those of `judge`.
pub fn after_checks(checks: &[Check], judge: impl FnOnce() -> Result<Judgement>) -> Result<Judgement> {
    let Some(failed) = checks.iter().find(|check| !check.passed) else { return judge() };
    Ok(Judgement {
        verdict: Verdict::Broken,
        source: VerdictSource::Checks,
        samples: 0,
        reason: format!("{} ({}): {}", failed.name, failed.engine, failed.message),
        drop: None,
        outputs: Vec::new(),
        next: String::new(),
    })
}
