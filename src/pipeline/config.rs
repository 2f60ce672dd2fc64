//! What a run needs to know.

use std::path::{Path, PathBuf};

use crate::data::Preprocess;
use crate::error::{Error, Result};
use crate::passes::GivenShape;
use crate::plan::{Activations, Policy};
use crate::recipes::{RECIPES, Recipe, Stage};
use crate::sensitivity;
use crate::stats::InputStatistics;
use crate::synthesis;
use crate::train::Settings;

/// Everything that a run needs to know.
pub struct Config {
    /// The float model.
    pub model: PathBuf,
    /// Where the quantized model goes; none for a dry run.
    pub output: Option<PathBuf>,
    /// How grids and integers are found.
    pub recipe: &'static Recipe,
    /// Whether a model that cannot be trained is quantized all the same, with a warning.
    pub trains_where_it_can: bool,
    /// How what was found is trained.
    pub stages: Vec<&'static Stage>,
    /// What goes where.
    pub policy: Policy,
    /// Which activations go onto grids.
    pub activations: Activations,
    /// The average of weight bits to stay within, where bits are to be chosen layer by layer.
    pub auto_bits: Option<sensitivity::Request>,
    /// Whether the report ranks layers by what quantizing them costs.
    pub sensitivity: bool,
    /// What the user says of training.
    pub training: Settings,
    /// A file of inputs to find ranges on and to train on, in place of synthetic ones, and how they become inputs.
    pub data: Option<(PathBuf, Preprocess)>,
    /// What ranges of activations come from.
    pub ranges: Ranges,
    /// How inputs are made up.
    pub synthesis: synthesis::Options,
    /// Shapes that the user gave for inputs; they fix nothing in what is written that the model leaves open.
    pub input_shapes: Vec<GivenShape>,
    /// Inputs that become constants, with their values as typed.
    pub set_inputs: Vec<(String, String)>,
    /// The network's input, where the user described it.
    pub input: Option<InputStatistics>,
    /// A file of statistics beside the model (see [`crate::stats::read_statistics`]).
    pub statistics: Option<PathBuf>,
    /// Everything random follows from it.
    pub seed: u64,
    /// Samples of the checks; none for as many as the model's work allows
    /// ([`crate::verify::limits::default_samples`]).
    pub samples: Option<usize>,
    /// Labelled images to count top-1 on.
    pub evaluation: Option<(PathBuf, Preprocess)>,
    /// Thresholds against the float model.
    pub thresholds: Thresholds,
    /// Whether a file that fails a hard check is kept, under another name.
    pub keep_failed: bool,
    /// Whether weights go to a file of their own whatever their size.
    pub external_data: bool,
}

/// What ranges of activations come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Ranges {
    /// What the file tells of activations, else dead leaves.
    #[default]
    Analytic,
    /// Inputs that are made for the network first.
    Synthetic,
}

impl Config {
    /// Returns what training made; nothing, with the reason in `untrained`, where nobody asked for it and the model does not
    /// allow it (an operator without a gradient, a shape that is not fixed, a loss that diverges) or the machine does not.
    /// Anything else is a mistake of ours, and stays an error.
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

    /// Returns what is done with a model by default: no file is written, and what is quantized has 8 bits.
    pub fn of_model(model: &Path) -> Self {
        Self {
            model: model.to_owned(),
            output: None,
            recipe: &RECIPES[0],
            trains_where_it_can: false,
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

/// What the user wants at least.
#[derive(Clone, Copy, Debug, Default)]
pub struct Thresholds {
    /// Smallest top-1 agreement with the float model, 0 to 1.
    pub min_agreement: Option<f64>,
    /// Smallest signal-to-noise ratio of any output against the float model, in dB.
    pub min_sqnr: Option<f64>,
    /// Smallest share of the multiply-accumulates that the target computes in integers, 0 to 1.
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
