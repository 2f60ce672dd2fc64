//! What the user says of training.

use std::path::PathBuf;
use std::time::Instant;

/// Where a run leaves checkpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFolder {
    /// The folder.
    pub path: PathBuf,
    /// Whether to go on from what it holds.
    pub resume: bool,
}

/// Settings of training; what is not given is the recipe's choice.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// Steps.
    pub steps: Option<u64>,
    /// Samples of a step.
    pub batch: Option<usize>,
    /// The initial learning rate.
    pub learning_rate: Option<f64>,
    /// The folder that step graphs are written to.
    pub save_graphs: Option<PathBuf>,
    /// The folder of checkpoints.
    pub folder: Option<RunFolder>,
    /// When training ends, whatever is left to do.
    pub deadline: Option<Instant>,
}

/// Returns when the first of `parts` parts of the time until `deadline` is over.
pub fn share_of(deadline: Option<Instant>, parts: usize) -> Option<Instant> {
    let now = Instant::now();
    let parts = u32::try_from(parts.max(1)).unwrap_or(u32::MAX);
    deadline.map(|deadline| now + deadline.saturating_duration_since(now) / parts)
}
