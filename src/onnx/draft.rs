//! Drafts of model files, removed unless published.

mod data_file;

use std::path::{Path, PathBuf};

use super::save::{INLINE_LIMIT, Saved, save};
use crate::error::{Error, Result};
use crate::files::{self, DraftFolder};
use crate::ir::Graph;

pub(super) use data_file::data_name;
use data_file::remove_unread;

/// A model written beside its destination, removed unless published.
pub struct Draft {
    /// The files in a separate folder beside the destination.
    pub saved: Saved,
    /// Removed with its contents.
    _folder: DraftFolder,
}

impl Draft {
    /// Writes `graph` into a new folder beside `output`; weights go to a separate file if `external` or too large.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn write(graph: &Graph, output: &Path, external: bool) -> Result<Self> {
        let folder = DraftFolder::beside(output)?;
        let limit = if external { 0 } else { INLINE_LIMIT };
        // Where drafts lie means nothing to the user.
        let saved = save(graph, &folder.draft_of(output), limit).map_err(|error| match error {
            Error::Write { source, .. } => Error::write(output)(source),
            other => other,
        })?;
        Ok(Self { saved, _folder: folder })
    }

    /// Moves the files to their destination: weights first, named by their contents, so that a model file never lacks
    /// its weights. Weights of an earlier model there are removed once no model beside it reads them.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn publish(self, output: &Path) -> Result<PathBuf> {
        if let Some(data) = &self.saved.data {
            files::rename(data, &output.with_file_name(data.file_name().unwrap_or_default()))?;
        }
        files::rename(&self.saved.model, output)?;
        remove_unread(output);
        Ok(output.to_owned())
    }
}
