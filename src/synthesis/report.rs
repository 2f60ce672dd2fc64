//! The report of image synthesis.

use serde::Serialize;

use super::{Answers, Options};
use crate::train::{Played, Rollback};

/// Images after less than one part in this many of the steps are hardly better than noise.
const FEWEST_STEPS: u64 = 4;

/// The report of image synthesis.
#[derive(Clone, Debug, Serialize)]
pub struct SynthesisReport {
    /// The options.
    pub options: Options,
    /// Images per generator.
    pub batch: usize,
    /// The loss terms and their weights.
    pub weights: Vec<(&'static str, f64)>,
    /// The number of normalized tensors whose statistics were compared.
    pub layers: usize,
    /// Multiply-accumulates per image of the teacher and of a generator.
    pub macs: [u64; 2],
    /// Bytes of the tensors of a step.
    pub step_bytes: usize,
    /// Operators without gradient.
    pub blocked: Vec<String>,
    /// The training of each generator.
    pub generators: Vec<GeneratorReport>,
    /// The teacher's predictions on the images.
    pub answers: Option<Answers>,
}

impl SynthesisReport {
    /// Returns the completed and the planned steps of all generators.
    pub fn steps(&self) -> [u64; 2] {
        let done = self.generators.iter().map(|generator| generator.steps).sum();
        [done, self.generators.iter().map(|_| self.options.steps).sum()]
    }

    /// Returns whether images are better than the noise that generators start from.
    pub fn is_of_use(&self) -> bool {
        let [done, planned] = self.steps();
        done >= planned / FEWEST_STEPS
    }
}

/// The report of one generator's training.
#[derive(Clone, Debug, Serialize)]
pub struct GeneratorReport {
    /// Completed steps.
    pub steps: u64,
    /// The step at which a checkpoint was resumed, 0 for uninterrupted training.
    pub resumed_at: u64,
    /// Rollbacks after the loss diverged.
    pub rollbacks: Vec<Rollback>,
    /// The loss of every step and its terms, by name.
    pub losses: Vec<(String, Vec<f32>)>,
}

impl GeneratorReport {
    /// Returns the report of a game of one generator.
    pub(super) fn of(played: Played) -> Self {
        let (steps, losses) = (played.steps(), played.losses());
        Self { steps, resumed_at: played.resumed, rollbacks: played.rollbacks, losses }
    }
}
