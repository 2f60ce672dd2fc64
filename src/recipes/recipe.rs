//! The definition of a recipe, and the table of all recipes.

use super::{Candidates, cascade, choi2020, dfq2019, fast, gdfq, lsq, nearest, squant, stages::Stage};
use crate::calibrate::CalibrationContext;
use crate::error::{Error, Result};
use crate::layers::Scope;
use crate::solution::Solved;

/// A recipe's function: returns its solution for one of the candidates.
pub type Run = fn(candidates: &Candidates, context: &CalibrationContext) -> Result<Solved>;

/// The amount of training of a recipe.
#[derive(Clone, Copy, Debug)]
pub struct TrainingBudget {
    /// Synthetic images, if any are generated.
    pub images: usize,
    /// Steps per reconstructed block.
    pub block_steps: u64,
    /// Steps of the whole network.
    pub steps: u64,
    /// Steps of the whole network with an adversarial generator.
    pub adversarial_steps: u64,
}

impl TrainingBudget {
    /// No training.
    pub(super) const NONE: Self = Self { images: 256, block_steps: 0, steps: 0, adversarial_steps: 0 };
}

/// One row of the table.
pub struct Recipe {
    /// The name on the command line.
    pub name: &'static str,
    /// A one-line summary.
    pub summary: &'static str,
    /// The papers it is based on.
    pub citation: &'static str,
    /// The links between layers whose channels are equalized and absorbed beforehand, if any.
    pub equalized: Option<Scope>,
    /// The recipe itself, or the starting point of training.
    pub run: Run,
    /// The training stages, in order.
    pub stages: &'static [&'static Stage],
    /// The amount of training.
    pub budget: TrainingBudget,
    /// Whether it calibrates on images synthesized for the network first.
    pub wants_images: bool,
    /// Whether the layers of its solution are refitted in turn, where weights have fewer than 8 bits.
    pub refits: bool,
}

/// Every recipe, the default first.
pub const RECIPES: &[Recipe] = &[
    fast::RECIPE,
    cascade::RECIPE,
    cascade::MORE,
    lsq::RECIPE,
    gdfq::RECIPE,
    choi2020::RECIPE,
    nearest::RECIPE,
    dfq2019::RECIPE,
    squant::RECIPE,
];

/// Returns the recipe named `name`.
///
/// # Errors
/// [`Error::Usage`] listing the known recipes.
pub fn find(name: &str) -> Result<&'static Recipe> {
    RECIPES.iter().find(|r| r.name == name).ok_or_else(|| {
        let names: Vec<&str> = RECIPES.iter().map(|r| r.name).collect();
        Error::Usage(format!("there is no recipe \"{name}\"; known: {}", names.join(", ")))
    })
}
