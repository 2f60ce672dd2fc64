//! The configuration of a run.

use std::path::{Path, PathBuf};

use crate::data::Preprocess;
use crate::error::{Error, Result};
use crate::onnx;
use crate::passes::GivenShape;
use crate::plan::{Activations, Policy};
use crate::recipes::{RECIPES, Recipe, Stage};
use crate::sensitivity;
use crate::stats::InputStatistics;
use crate::synthesis;
use crate::train::Settings;

/// All settings of a run.
pub struct Config {
    /// The float model.
    pub model: PathBuf,
    /// The path of the quantized model; none for a dry run.
    pub output: Option<PathBuf>,
    /// The path of the report as JSON, if it is written.
    pub report: Option<PathBuf>,
    /// The method that finds grids and integers.
    pub recipe: &'static Recipe,
    /// Whether a model that cannot be trained is still quantized, with a warning.
    pub trains_where_it_can: bool,
    /// Whether nothing is trained where the result without training is good.
    pub trains_where_needed: bool,
    /// The training stages after the recipe.
    pub stages: Vec<&'static Stage>,
    /// The quantization policy for tensors.
    pub policy: Policy,
    /// The activations to quantize.
    pub activations: Activations,
    /// The limit on average weight bits, where bits are chosen per layer.
    pub auto_bits: Option<sensitivity::Request>,
    /// Whether the report ranks layers by their sensitivity to quantization.
    pub sensitivity: bool,
    /// The user's training settings.
    pub training: Settings,
    /// A file of inputs for calibration and training in place of synthetic ones, and their preprocessing.
    pub data: Option<(PathBuf, Preprocess)>,
    /// The source of activation ranges.
    pub ranges: Ranges,
    /// The options of synthesis.
    pub synthesis: synthesis::Options,
    /// Input shapes set by the user; axes that the model leaves open stay open in the written file.
    pub input_shapes: Vec<GivenShape>,
    /// Inputs to replace by constants, with their values as typed.
    pub set_inputs: Vec<(String, String)>,
    /// The user's description of the network's input.
    pub input: Option<InputStatistics>,
    /// A separate file of statistics (see [`crate::stats::read_statistics`]).
    pub statistics: Option<PathBuf>,
    /// The seed of all random numbers.
    pub seed: u64,
    /// The number of samples of the checks; by default as many as the model's cost allows
    /// ([`crate::verify::limits::default_samples`]).
    pub samples: Option<usize>,
    /// Labeled images for top-1 accuracy.
    pub evaluation: Option<(PathBuf, Preprocess)>,
    /// Thresholds against the float model.
    pub thresholds: Thresholds,
    /// Whether a file that fails a hard check is kept under another name.
    pub keep_failed: bool,
    /// Whether weights always go to a separate file.
    pub external_data: bool,
}

/// The source of activation ranges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Ranges {
    /// Statistics in the file, else dead leaves.
    #[default]
    Analytic,
    /// Inputs synthesized for the network first.
    Synthetic,
}

impl Config {
    /// Returns all files that are read, external data of the model included.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let mut files = onnx::files_read(&self.model);
        let of_inputs = [&self.data, &self.evaluation].into_iter().flatten().map(|(file, _)| file);
        files.extend(of_inputs.chain(&self.statistics).cloned());
        files
    }

    /// Returns whether the result without training decides on training. Bits that are chosen for each weight depend on the
    /// images for training, which come first.
    pub(super) fn decides_on_training(&self) -> bool {
        let trains = !self.stages.is_empty() && self.output.is_some();
        self.trains_where_needed && trains && self.auto_bits.is_none()
    }

    /// Returns the result of training; none, with the reason in `untrained`, where training is optional and fails
    /// because of the model (an operator without gradient, a shape that is not fixed, a loss that diverges) or the
    /// machine. Any other error is a bug and is returned.
    pub(super) fn unless_untrainable<T>(&self, made: Result<T>, untrained: &mut Option<String>) -> Result<Option<T>> {
        match made {
            Err(reason @ (Error::Unsupported { .. } | Error::Diverged(_) | Error::Resources(_)))
                if self.trains_where_it_can =>
            {
                *untrained = Some(reason.to_string());
                Ok(None)
            }
            made => made.map(Some),
        }
    }

    /// Returns the default configuration for a model: no output file, 8-bit quantization.
    pub fn of_model(model: &Path) -> Self {
        Self {
            model: model.to_owned(),
            output: None,
            report: None,
            recipe: &RECIPES[0],
            trains_where_it_can: false,
            trains_where_needed: false,
            stages: RECIPES[0].stages.to_vec(),
            policy: Policy::default(),
            activations: Activations::default(),
            auto_bits: None,
            sensitivity: false,
            training: Settings::default(),
            data: None,
            ranges: Ranges::default(),
            synthesis: synthesis::Options::default(),
            input_shapes: Vec::new(),
            set_inputs: Vec::new(),
            input: None,
            statistics: None,
            seed: 0,
            samples: None,
            evaluation: None,
            thresholds: Thresholds::default(),
            keep_failed: false,
            external_data: false,
        }
    }
}

/// The user's minimum requirements.
#[derive(Clone, Copy, Debug, Default)]
pub struct Thresholds {
    /// The least top-1 agreement with the float model, 0 to 1.
    pub min_agreement: Option<f64>,
    /// The least signal-to-noise ratio of any output against the float model, in dB.
    pub min_sqnr: Option<f64>,
    /// The least fraction of multiply-accumulates that the target computes in integers, 0 to 1.
    pub min_coverage: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_model_or_a_machine_causes_is_no_error_where_nobody_asked_for_training() {
        let cases: [(Error, bool); 7] = [
            (Error::unsupported("node \"a\"", "no gradient rule"), true),
            (Error::Diverged("the loss rose".to_owned()), true),
            (Error::Resources("too little memory".to_owned()), true),
            (Error::shape("mul at step.rs", "[2] and [3]"), false),
            (Error::runtime("ONNX Runtime", "Node (add) has input size 3"), false),
            (Error::Plan("no such tensor".to_owned()), false),
            (Error::Interrupted("stopped".to_owned()), false),
        ];
        let mut config = Config::of_model(Path::new("model.onnx"));
        for (error, is_excused) in cases {
            let (text, mut untrained) = (error.to_string(), None);
            config.trains_where_it_can = true;
            let found = config.unless_untrainable::<()>(Err(error), &mut untrained);
            assert_eq!((found.is_ok(), untrained), (is_excused, is_excused.then_some(text)));
        }
        config.trains_where_it_can = false;
        let refused = Err(Error::Resources("too little memory".to_owned()));
        assert!(config.unless_untrainable::<()>(refused, &mut None).is_err(), "who asks is told");
    }
}
