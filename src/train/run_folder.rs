//! The folder of a run: where its checkpoints lie, and which run uses it.

use std::path::{Path, PathBuf};

use super::settings::CHECKPOINT;
use crate::error::{Error, Result};
use crate::files::{Attempt, Lock, remove_leftovers};

/// The name of the lock in a folder that is in use.
const LOCK: &str = ".lock";

/// Where a run leaves checkpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFolder {
    /// The folder.
    pub path: PathBuf,
    /// Whether to resume from its checkpoints.
    pub resume: bool,
}

/// Exclusive use of a folder until it is dropped; a folder that it created is removed then if it is empty.
#[derive(Debug)]
pub struct Claim {
    lock: Option<Lock>,
    /// Folders that were not there before, inner ones first.
    made: Vec<PathBuf>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        drop(self.lock.take());
        let _ = self.made.iter().try_for_each(std::fs::remove_dir);
    }
}

impl RunFolder {
    /// Takes the folder for this run, and makes it where there is none. Where the file system has no locks, other runs
    /// cannot be told.
    ///
    /// # Errors
    /// [`Error::Usage`] for a folder that another run uses, and as [`RunFolder::refuse_used`]; [`Error::Write`].
    pub fn claim(&self) -> Result<Claim> {
        let is_missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
        let missing: Vec<PathBuf> = self.path.ancestors().take_while(is_missing).map(Path::to_owned).collect();
        std::fs::create_dir_all(&self.path).map_err(Error::write(&self.path))?;
        let mut claim = Claim { lock: None, made: missing };
        let lock = self.path.join(LOCK);
        claim.lock = match Lock::take(&lock).map_err(Error::write(&lock))? {
            Attempt::Taken(lock) => Some(lock),
            Attempt::Unknown => None,
            Attempt::Busy => {
                let folder = self.path.display();
                let message = format!("{folder} is in use by another run; wait for its end, or name another folder");
                return Err(Error::Usage(message));
            }
        };
        remove_leftovers(&self.path);
        self.refuse_used()?;
        Ok(claim)
    }

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
            let advice = format!("continue it with --resume {folder}, or name another folder");
            Err(Error::Usage(format!("{file} is of an earlier run; {advice}")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_run_at_a_time_and_goes_where_it_left_nothing() {
        let base = tempfile::tempdir().unwrap();
        let folder = RunFolder { path: base.path().join("runs/first"), resume: true };
        let claim = folder.claim().unwrap();
        let error = folder.claim().unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains("in use by another run"), "{error}");
        drop(claim);
        assert!(!base.path().join("runs").exists());
        let claim = folder.claim().unwrap();
        std::fs::write(folder.path.join(format!("distil.{CHECKPOINT}")), "").unwrap();
        drop(claim);
        assert_eq!(std::fs::read_dir(&folder.path).unwrap().count(), 1);
        let anew = RunFolder { resume: false, ..folder };
        assert!(anew.claim().unwrap_err().to_string().contains("is of an earlier run"));
    }
}
