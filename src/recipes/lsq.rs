//! `lsq`: weights, biases and quantizer steps of the whole network trained against the float network on dead leaves, from
//! what `fast` found.

use super::fast::fast;
use super::stages::DISTIL;
use super::{Effort, Recipe};

pub(super) const RECIPE: Recipe = Recipe {
    name: "lsq",
    summary: "trains weights, biases and quantizer steps until the network computes what the float one does",
    citation: "steps after Esser et al. 2020 (LSQ), distillation after Hinton et al. 2015; starts from fast",
    run: fast,
    stages: &[&DISTIL],
    effort: Effort { images: 256, block_steps: 300, steps: 400, adversarial_steps: 150 },
    wants_images: false,
};
