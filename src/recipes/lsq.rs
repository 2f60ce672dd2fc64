//! `lsq`: weights, biases and quantizer steps of the whole network trained against the float network on dead leaves, from
//! what `fast` found.

use super::fast::fast;
use super::stages::DISTIL;
use super::{Effort, Recipe, cascade};

pub(super) const RECIPE: Recipe = Recipe {
    name: "lsq",
    summary: "trains weights, biases and quantizer steps until the network computes what the float one does",
    citation: "steps after Esser et al. 2020 (LSQ), distillation after Hinton et al. 2015; starts from fast",
    run: fast,
    stages: &[&DISTIL],
    effort: Effort { steps: 400, ..cascade::RECIPE.effort },
    wants_images: false,
};
