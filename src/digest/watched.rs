//! Detects changes of files during a run.

use std::path::PathBuf;

use super::sha256_of_file;
use crate::error::{Error, Result};

/// Files and the digests of their contents.
#[derive(Clone, Debug)]
pub struct Watched(Vec<(PathBuf, String)>);

impl Watched {
    /// Returns the digests of `files`; skips files that cannot be read.
    pub fn new(files: impl IntoIterator<Item = PathBuf>) -> Self {
        let digest = |path: PathBuf| sha256_of_file(&path).ok().map(|digest| (path, digest));
        Self(files.into_iter().filter_map(digest).collect())
    }

    /// Checks that no file has changed.
    ///
    /// # Errors
    /// [`Error::Malformed`] for a file that changed.
    pub fn check(&self) -> Result<()> {
        self.0.iter().try_for_each(|(path, before)| match sha256_of_file(path)? == *before {
            true => Ok(()),
            false => {
                let message = "changed while it was read; run again once nothing writes to it";
                Err(Error::malformed(path.display().to_string(), message))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_in_place_and_a_file_that_went_are_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let [first, second] = ["weights", "model"].map(|name| folder.path().join(name));
        for path in [&first, &second] {
            std::fs::write(path, "before").unwrap();
        }
        let watched = Watched::new([first.clone(), second.clone(), folder.path().join("absent")]);
        watched.check().unwrap();
        std::fs::write(&second, "behind").unwrap();
        let error = watched.check().unwrap_err();
        assert!(error.exit_code() == 3 && error.to_string().contains("model: changed while"), "{error}");
        std::fs::remove_file(&first).unwrap();
        assert_eq!(watched.check().unwrap_err().exit_code(), 3);
    }
}
