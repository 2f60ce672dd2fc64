//! What a recipe is, and the table of all of them.

use super::{cascade, dfq2019, fast, lsq, nearest, squant, stages::Stage};
use crate::calibrate::CalibrationContext;
use crate::error::{Error, Result};
use crate::ir::Graph;
use crate::plan::Plan;
use crate::solution::Solution;

/// A recipe. It may change the float network's weights and biases; outputs must stay equal but for rounding.
pub type Run = fn(float: &mut Graph, plan: &Plan, context: &CalibrationContext) -> Result<Solution>;

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
    pub(super) const NONE: Self = Self { images: 256, block_steps: 0, steps: 0, adversarial_steps: 0 };
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
