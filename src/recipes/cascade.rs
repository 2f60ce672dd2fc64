//! `cascade`: images are made for the network, ranges and roundings found on them, blocks reconstructed one after the other,
//! and the whole network trained on them; `cascade-max` does more of all that.

use super::fast::fast;
use super::stages::{ADVERSARIAL, DISTIL, RECONSTRUCT};
use super::{Effort, Recipe};

pub(super) const RECIPE: Recipe = Recipe {
    name: "cascade",
    summary: "makes images for the network, starts from fast on them, reconstructs block by block and trains the whole",
    citation: "images after Li et al. 2023 (Genie), blocks after Li et al. 2021 (BRECQ) and Wei et al. 2022 (QDrop), \
               steps after Esser et al. 2020 (LSQ), distillation after Hinton et al. 2015",
    run: fast,
    stages: &[&RECONSTRUCT, &DISTIL],
    effort: Effort { images: 256, block_steps: 300, steps: 300, adversarial_steps: 150 },
    wants_images: true,
};

pub(super) const MORE: Recipe = Recipe {
    name: "cascade-max",
    summary: "does more of cascade, on more images, and trains against a generator last",
    citation: "as cascade, and adversarial images after Choi et al. 2020",
    stages: &[&RECONSTRUCT, &DISTIL, &ADVERSARIAL],
    effort: Effort { images: 1024, block_steps: 1000, steps: 2000, adversarial_steps: 1000 },
    ..RECIPE
};
