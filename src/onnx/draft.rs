//! Writing that leaves nothing behind unless it is meant to stay.

mod data_file;

use std::path::{Path, PathBuf};

use super::save::{INLINE_LIMIT, Saved, save};
use crate::error::{Error, Result};
use crate::files::{self, DraftFolder};
use crate::ir::Graph;

pub(super) use data_file::data_name;
use data_file::remove_unread;

/// A model written beside its destination, gone unless published.
pub struct Draft {
    /// The files as they lie in a folder of their own beside the destination.
    pub saved: Saved,
    /// Goes with what is still in it.
    _folder: DraftFolder,
}

impl Draft {
    /// Writes `graph` into a new folder beside `output`; weights to a file of their own where `external` or too many.
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

    /// Moves the files to their destination: weights first, whose name is that of their contents, so that a model file
    /// never lacks its own. Weights of an earlier model in this place go once no model beside it reads them.
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
