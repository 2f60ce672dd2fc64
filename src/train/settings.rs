//! The user's training settings.

use std::path::PathBuf;
use std::time::Instant;

use crate::error::{Error, Result};

/// The file extension of checkpoints.
pub(super) const CHECKPOINT: &str = "safetensors";

/// The checkpoint folder of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFolder {
    /// The folder.
    pub path: PathBuf,
    /// Whether to resume from its checkpoints.
    pub resume: bool,
}

impl RunFolder {
    /// Rejects a folder that holds the checkpoints of another run, unless it is resumed.
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

/// Training settings; the recipe chooses those that are not set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// The number of steps.
    pub steps: Option<u64>,
    /// Samples per step.
    pub batch: Option<usize>,
    /// The initial learning rate.
    pub learning_rate: Option<f64>,
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
