//! `cascade`: images are made for the network, ranges and roundings found on them, and the whole network trained on them;
//! `cascade-max` does more of it, and all stages that there are.

use super::fast::fast;
use super::stages::{ADVERSARIAL, DISTIL, RECONSTRUCT};
use super::{Effort, Recipe};

/// In the same time, distillation alone came nearer to the float network than with blocks reconstructed before or with a
/// generator behind, at 3 and 4 bits (`benches/README.md`).
pub(super) const RECIPE: Recipe = Recipe {
    name: "cascade",
    summary: "makes images for the network, starts from fast on them, and trains the whole network on them",
    citation: "images after Li et al. 2023 (Genie), steps after Esser et al. 2020 (LSQ), distillation after Hinton et al. 2015",
    run: fast,
    stages: &[&DISTIL],
    effort: Effort { images: 256, block_steps: 300, steps: 600, adversarial_steps: 200 },
    wants_images: true,
};

pub(super) const MORE: Recipe = Recipe {
    name: "cascade-max",
    summary: "makes more images, reconstructs block by block, trains the whole network longer and against a generator",
    citation: "as cascade; blocks after Nagel et al. 2020 (AdaRound), Li et al. 2021 (BRECQ) and Wei et al. 2022 (QDrop), \
               adversarial images after Choi et al. 2020",
    stages: &[&RECONSTRUCT, &DISTIL, &ADVERSARIAL],
    effort: Effort { images: 1024, block_steps: 1000, steps: 4000, adversarial_steps: 1000 },
    ..RECIPE
};
