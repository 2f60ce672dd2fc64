//! `cascade`: generates synthetic images, calibrates and rounds on them, then reconstructs the blocks and trains the
//! whole network on them and on dead leaves. `cascade-max` does the same with more images and steps, and runs all
//! stages.

use super::fast::{self, fast};
use super::stages::{ADVERSARIAL, DISTIL, RECONSTRUCT};
use super::{Recipe, TrainingBudget};

/// Adversarial training gained nothing in the same time at 3 and 4 bits (`benches/README.md`).
pub(super) const RECIPE: Recipe = Recipe {
    name: "cascade",
    summary: "synthesizes images, starts from fast on them, and trains the blocks and then the whole network on them \
              and on dead leaves",
    citation: "images after Li et al. 2023 (Genie), dead leaves after Baradad et al. 2021, blocks after Nagel et al. 2020 \
               (AdaRound), Li et al. 2021 (BRECQ) and Wei et al. 2022 (QDrop), steps after Esser et al. 2020 (LSQ), \
               distillation after Hinton et al. 2015",
    equalized: fast::RECIPE.equalized,
    run: fast,
    stages: &[&RECONSTRUCT, &DISTIL],
    budget: TrainingBudget { images: 256, block_steps: 300, steps: 900, adversarial_steps: 200 },
    wants_images: true,
    refits: true,
};

pub(super) const MORE: Recipe = Recipe {
    name: "cascade-max",
    summary: "the same with more images and steps, and adversarial training at the end",
    citation: "as cascade; adversarial images after Choi et al. 2020",
    stages: &[&RECONSTRUCT, &DISTIL, &ADVERSARIAL],
    budget: TrainingBudget { images: 1024, block_steps: 1000, steps: 4000, adversarial_steps: 1000 },
    ..RECIPE
};
