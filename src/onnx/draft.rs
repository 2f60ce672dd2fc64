//! Writing that leaves nothing behind unless it is meant to stay.

use std::path::{Path, PathBuf};

use super::save::{INLINE_LIMIT, Saved, save};
use crate::error::{Error, Result};
use crate::files::draft_of;
use crate::ir::Graph;

/// A model written beside its destination, gone unless published.
pub struct Draft {
    folder: tempfile::TempDir,
    /// The files as they lie in a folder of their own beside the destination.
    pub saved: Saved,
}

impl Draft {
    /// Writes `graph` into a new folder beside `output`; weights to a file of their own where `external` or too many.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn write(graph: &Graph, output: &Path, external: bool) -> Result<Self> {
        let (folder, model) = draft_of(output)?;
        let limit = if external { 0 } else { INLINE_LIMIT };
        let saved = save(graph, &model, limit)?;
        Ok(Self { folder, saved })
    }

    /// Moves the files to their destination: weights first, so that a model file never lacks them.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn publish(self, output: &Path) -> Result<PathBuf> {
        if let Some(data) = &self.saved.data {
            let name = data.file_name().unwrap_or_default();
            let to = output.with_file_name(name);
            std::fs::rename(data, &to).map_err(Error::write(&to))?;
        }
        std::fs::rename(&self.saved.model, output).map_err(Error::write(output))?;
        drop(self.folder);
        Ok(output.to_owned())
    }
}
