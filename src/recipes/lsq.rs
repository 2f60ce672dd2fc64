//! `lsq`: starts from `fast` and trains weights, biases and scales of the whole network by distillation from the float
//! network on dead leaves.

use super::fast::{self, fast};
use super::stages::DISTIL;
use super::{Recipe, TrainingBudget, cascade};

pub(super) const RECIPE: Recipe = Recipe {
    name: "lsq",
    summary: "distills weights, biases and scales from the float network on dead leaves",
    citation: "steps after Esser et al. 2020 (LSQ), distillation after Hinton et al. 2015; starts from fast",
    equalized: fast::RECIPE.equalized,
    run: fast,
    stages: &[&DISTIL],
    budget: TrainingBudget { steps: 400, ..cascade::RECIPE.budget },
    wants_images: false,
    refits: false,
};
