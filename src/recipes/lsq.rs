//! `lsq`: starts from `fast` and trains weights, biases and scales of the whole network by distillation from the float
//! network on dead leaves.

use super::fast::{self, fast};
use super::stages::DISTIL;
use super::{Effort, Recipe, cascade};

pub(super) const RECIPE: Recipe = Recipe {
    name: "lsq",
    summary: "trains weights, biases and quantizer steps until the network computes what the float one does",
    citation: "steps after Esser et al. 2020 (LSQ), distillation after Hinton et al. 2015; starts from fast",
    equalized: fast::RECIPE.equalized,
    run: fast,
    stages: &[&DISTIL],
    effort: Effort { steps: 400, ..cascade::RECIPE.effort },
    wants_images: false,
};
