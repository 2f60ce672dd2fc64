//! The user's training settings.

use std::path::PathBuf;
use std::time::Instant;

use super::RunFolder;

/// The file extension of checkpoints.
pub const CHECKPOINT: &str = "safetensors";
/// The ending of the file names of saved training-step graphs.
pub const STEP_GRAPH: &str = ".step.onnx";

/// Training settings; the recipe chooses those that are not set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// The number of steps.
    pub steps: Option<u64>,
    /// Samples per step.
    pub batch: Option<usize>,
    /// The initial learning rate.
    pub learning_rate: Option<f64>,
    /// Generators of an adversarial recipe.
    pub generators: Option<u64>,
    /// Students of an adversarial recipe.
    pub students: Option<u64>,
    /// Whether the result of every stage is kept, regardless of held-out inputs.
    pub keeps_all: bool,
    /// The folder for step graphs.
    pub save_graphs: Option<PathBuf>,
    /// The checkpoint folder.
    pub folder: Option<RunFolder>,
    /// The time at which training ends, finished or not.
    pub deadline: Option<Instant>,
}

/// Returns the end of the first of `parts` equal parts of the time until `deadline`.
pub fn share_of(deadline: Option<Instant>, parts: usize) -> Option<Instant> {
    let now = Instant::now();
    let parts = u32::try_from(parts.max(1)).unwrap_or(u32::MAX);
    deadline.map(|deadline| now + deadline.saturating_duration_since(now) / parts)
}
