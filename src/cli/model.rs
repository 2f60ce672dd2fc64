//! The float model and what is planned for it: what `quantize` and `sensitivity` share.

use std::path::{Path, PathBuf};

use clap::Args;

use super::arguments::{SampleArguments, input_shape, setting};
use super::destination::Sources;
use super::plan::{Effort, PlanArguments};
use super::preprocess::InputArguments;
use crate::data::Preprocess;
use crate::digest::Watched;
use crate::error::Result;
use crate::onnx::files_read;
use crate::passes::GivenShape;
use crate::pipeline::Config;
use crate::synthesis;

#[derive(Args)]
pub(super) struct ModelArguments {
    /// The float model
    pub(super) model: PathBuf,
    #[command(flatten)]
    pub(super) plan: PlanArguments,
    #[command(flatten)]
    graph: GraphArguments,
    #[command(flatten)]
    input: InputArguments,
    /// Labeled images (.npz with "images" and "labels") to measure accuracy on; nothing else uses them
    #[arg(long, value_name = "FILE")]
    eval: Option<PathBuf>,
    #[command(flatten)]
    samples: SampleArguments,
}

/// Properties that the file leaves open.
#[derive(Args)]
pub(super) struct GraphArguments {
    /// Shape of an input for planning and checks, `?` for an open size (repeatable); open axes stay open in the file
    #[arg(long, value_name = "NAME:1x3x224x224", value_parser = input_shape)]
    pub(super) input_shape: Vec<GivenShape>,
    /// Replace an input by a constant, such as sr=16000 (repeatable)
    #[arg(long, value_name = "NAME=VALUE", value_parser = setting)]
    pub(super) set_input: Vec<(String, String)>,
    /// Mean and variance per channel of tensors whose BatchNormalization was folded: JSON {"TENSOR": {"mean": [..], "var": [..]}}
    /// or .npz with TENSOR.mean and TENSOR.var. TENSOR is the output of a layer with its bias, before its activation
    /// function, or the layer's node; `inspect --bn-stats-out` writes such a file
    #[arg(long, value_name = "FILE")]
    pub(super) bn_stats: Option<PathBuf>,
}

/// Returns the state of the files of models and inputs, to detect changes.
pub(super) fn watched<'a>(models: impl IntoIterator<Item = &'a PathBuf>, data: Option<&'a PathBuf>) -> Watched {
    let files = models.into_iter().flat_map(|model| files_read(model));
    Watched::new(files.chain(data.cloned()))
}

impl GraphArguments {
    /// Returns the files that these flags name beside `model`.
    pub(super) fn sources<'a>(&self, model: &'a Path) -> Sources<'a> {
        Sources::new(model).and("--bn-stats", self.bn_stats.as_ref())
    }
}

impl ModelArguments {
    /// Returns the files that these flags name.
    pub(super) fn sources(&self) -> Sources<'_> {
        self.graph.sources(&self.model).and("--eval", self.eval.as_ref())
    }

    /// Returns the preprocessing.
    ///
    /// # Errors
    /// As [`InputArguments::preprocess`].
    pub(super) fn preprocess(&self) -> Result<Preprocess> {
        self.input.preprocess()
    }

    /// Returns the configuration of these flags, with the recipe of `default` where none is named, without output.
    ///
    /// # Errors
    /// For an unknown recipe.
    pub(super) fn config(&self, default: Effort) -> anyhow::Result<Config> {
        let recipe = self.plan.recipe(default)?;
        Ok(Config {
            recipe,
            trains_where_it_can: self.plan.leaves_recipe_open(),
            trains_where_needed: self.plan.trains_where_needed(default),
            stages: self.plan.stages(recipe)?,
            synthesis: synthesis::Options { images: recipe.budget.images, ..synthesis::Options::default() },
            policy: self.plan.policy(),
            activations: self.plan.activations,
            input_shapes: self.graph.input_shape.clone(),
            set_inputs: self.graph.set_input.clone(),
            input: self.input.input()?,
            statistics: self.graph.bn_stats.clone(),
            seed: self.samples.seed,
            samples: self.samples.samples()?,
            evaluation: self.eval.clone().zip(Some(self.preprocess()?)),
            ..Config::of_model(&self.model)
        })
    }
}
