//! What the user says of training.

use std::path::PathBuf;
use std::time::Instant;

use crate::error::{Error, Result};

/// The extension of checkpoints.
pub(super) const CHECKPOINT: &str = "safetensors";

/// Where a run leaves checkpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFolder {
    /// The folder.
    pub path: PathBuf,
    /// Whether to go on from what it holds.
    pub resume: bool,
}

impl RunFolder {
    /// Refuses a folder that holds a run which is not to be gone on with.
    ///
    /// # Errors
    /// [`Error::Usage`] naming one of its checkpoints.
    pub fn refuse_used(&self) -> Result<()> {
        let entries = std::fs::read_dir(&self.path).ok().filter(|_| !self.resume).into_iter().flatten();
        let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let checkpoint = files.filter(|path| path.extension().is_some_and(|extension| extension == CHECKPOINT)).min();
        checkpoint.map_or(Ok(()), |file| {
            let (file, folder) = (file.display(), self.path.display());
            let advice = format!("--resume {folder} goes on with it, or name another folder");
            Err(Error::Usage(format!("{file} holds a run already; {advice}")))
        })
    }
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
