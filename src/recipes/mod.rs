//! Recipes: how a plan's grids and integers are found. One recipe = one file + one row of [`RECIPES`].

mod analytic;
mod cascade;
mod dfq2019;
mod fast;
mod images;
mod judge;
mod lsq;
mod nearest;
mod probes;
mod rounding;
mod seen;
mod settle;
mod shift;
mod squant;
mod stages;
mod training;
mod trial;
mod weights;

use std::collections::HashMap;

use crate::error::{Error, Result};
use crate::ir::{Graph, Tensor};
use crate::layers::Step;
use crate::plan::Plan;
use crate::quant::{Grid, QuantizedTensor};
use crate::runtime::{Engine, first_samples};
use crate::stats::{BatchNorm, InputStatistics};

pub use stages::{HeldOut, OtherKind, STAGES, Stage, StageReport, against, find_stages, train};
pub use training::{DescentReport, Supply, Training};

/// What every recipe may draw on; none of it is data of the user's.
#[derive(Clone, Copy)]
pub struct Teacher<'a> {
    /// Batch-normalisation statistics, read before folding; empty where the exporter folded them away.
    pub norms: &'a [BatchNorm],
    /// What is known or assumed of the network's input.
    pub input: &'a InputStatistics,
    /// Inputs that were made for the network, one tensor for each input; none where nobody asked for them.
    pub images: Option<&'a [Tensor]>,
    /// Runs float graphs.
    pub engine: &'a dyn Engine,
    /// Everything random follows from it.
    pub seed: u64,
    /// Threads to work with; results do not depend on it.
    pub threads: usize,
}

impl Teacher<'_> {
    /// Returns up to `samples` inputs for `graph`: the first of those that were made for it, else dead leaves.
    ///
    /// # Errors
    /// When an input's shape is not known.
    pub fn inputs(&self, graph: &Graph, samples: usize) -> Result<Vec<Tensor>> {
        match self.images {
            Some(images) => first_samples(graph, images, samples),
            None => self.input.synthetic(graph, samples, self.seed, self.threads),
        }
    }
}

/// Where the range of an activation grid came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RangeSource {
    /// The interval of the network's input.
    Input,
    /// Moments that follow from batch-normalisation statistics.
    Statistics,
    /// Values that smooth synthetic inputs took in the float network.
    SyntheticInputs,
    /// Training.
    Trained,
}

/// What was subtracted from biases, by the result of the layer, one value per output channel.
pub type Corrections = HashMap<String, Vec<f32>>;

/// Returns values rounded to float32.
fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&v| v as f32).collect()
}

/// Grids and integers for a plan, in its order.
#[derive(Clone, Debug)]
pub struct Solution {
    /// One grid per [`Plan::activations`].
    pub activations: Vec<Grid>,
    /// Where each of those ranges came from.
    pub sources: Vec<RangeSource>,
    /// One tensor per [`Plan::weights`].
    pub weights: Vec<QuantizedTensor>,
    /// Output channels whose weight scale was enlarged so that the bias fits int32, by weight.
    pub enlarged: Vec<(String, usize)>,
    /// What was subtracted from a layer's bias to make up for the error of its weight, by the layer's result: a layer
    /// that is left float while others are quantized takes it back.
    pub corrections: Corrections,
    /// What was done to single layers beside rounding, and what could not be done and why.
    pub steps: Vec<Step>,
}

/// A recipe. It may change the student's float weights and biases; outputs must stay equal but for rounding.
pub type Run = fn(student: &mut Graph, plan: &Plan, teacher: &Teacher) -> Result<Solution>;

/// How much a recipe trains.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Images that are made for the network, where any are.
    pub images: usize,
    /// Steps of each block that is reconstructed.
    pub block_steps: u64,
    /// Steps of the whole network.
    pub steps: u64,
    /// Steps of the whole network against a generator.
    pub adversarial_steps: u64,
}

impl Effort {
    /// No training.
    const NONE: Self = Self { images: 256, block_steps: 0, steps: 0, adversarial_steps: 0 };
}

/// A student and what a recipe found for it.
#[derive(Clone, Debug)]
pub struct Solved {
    /// The float student, as the recipe left it.
    pub student: Graph,
    /// Which tensor goes onto which grid.
    pub plan: Plan,
    /// Grids and integers.
    pub solution: Solution,
}

/// One row of the table.
pub struct Recipe {
    /// The name on the command line.
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// Where it comes from.
    pub citation: &'static str,
    /// The recipe itself, or what training starts from.
    pub run: Run,
    /// How that is trained, stage by stage.
    pub stages: &'static [&'static Stage],
    /// How much of it.
    pub effort: Effort,
    /// Whether it goes by images that are made for the network first.
    pub wants_images: bool,
}

/// Every recipe, the default first.
pub const RECIPES: &[Recipe] =
    &[fast::RECIPE, cascade::RECIPE, cascade::MORE, lsq::RECIPE, nearest::RECIPE, dfq2019::RECIPE, squant::RECIPE];

/// Returns the recipe called `name`.
///
/// # Errors
/// [`Error::Usage`] listing those that exist.
pub fn find(name: &str) -> Result<&'static Recipe> {
    RECIPES.iter().find(|r| r.name == name).ok_or_else(|| {
        let names: Vec<&str> = RECIPES.iter().map(|r| r.name).collect();
        Error::Usage(format!("there is no recipe \"{name}\"; known: {}", names.join(", ")))
    })
}
