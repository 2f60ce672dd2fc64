//! Draft folders: a file is written to a folder beside its destination until it is complete.
//!
//! A killed process leaves its folder behind. The next process that writes there removes the folder once its lock is
//! free.

use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::lock::{Attempt, Lock};
use crate::error::{Error, Result};

/// The prefix of the folders' names.
const PREFIX: &str = ".dfq-onnx-";
/// The name of the lock in a folder.
const LOCK: &str = ".lock";
/// Attempts to create a folder: another process may remove it before its lock is taken.
const ATTEMPTS: usize = 16;

/// A folder beside a destination file, removed with its contents when dropped.
#[derive(Debug)]
pub struct DraftFolder {
    /// Dropped before the folder, which is empty by then.
    lock: Option<Lock>,
    folder: TempDir,
}

impl DraftFolder {
    /// Returns a new folder beside `path`, and removes leftovers of ended processes.
    ///
    /// # Errors
    /// [`Error::Usage`] where the path names no file; [`Error::Write`] where its folder takes no new one.
    pub fn beside(path: &Path) -> Result<Self> {
        if path.file_name().is_none() {
            return Err(Error::Usage(format!("{} names no file", path.display())));
        }
        let parent = super::folder_of(path);
        if !parent.exists() {
            let parent = parent.display();
            let message =
                format!("there is no folder {parent}; create it (mkdir -p {parent}), or name a file in another one");
            return Err(Error::write(path)(io::Error::new(io::ErrorKind::NotFound, message)));
        }
        remove_leftovers(parent);
        // The name of the temporary folder means nothing to the user.
        let plain = |e: io::Error| e.raw_os_error().map_or_else(|| e.kind().into(), io::Error::from_raw_os_error);
        Self::within(parent).map_err(|e| Error::write(path)(plain(e)))
    }

    fn within(parent: &Path) -> io::Result<Self> {
        for _ in 0..ATTEMPTS {
            let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?;
            match Lock::take(&folder.path().join(LOCK)) {
                Ok(Attempt::Taken(lock)) => return Ok(Self { lock: Some(lock), folder }),
                Ok(Attempt::Unknown) => return Ok(Self { lock: None, folder }),
                Ok(Attempt::Busy) => (),
                Err(e) if e.kind() == io::ErrorKind::NotFound => (),
                Err(e) => return Err(e),
            }
        }
        Err(io::ErrorKind::ResourceBusy.into())
    }

    /// Returns the path of the draft of the file at `path`.
    pub fn draft_of(&self, path: &Path) -> PathBuf {
        self.folder.path().join(path.file_name().unwrap_or_default())
    }
}

impl Drop for DraftFolder {
    fn drop(&mut self) {
        clear(self.folder.path());
        drop(self.lock.take());
    }
}

/// Returns all draft folders in `parent`.
pub fn draft_folders(parent: &Path) -> Vec<PathBuf> {
    folders_named(parent, PREFIX)
}

/// Returns the folders in `parent` whose names begin with `prefix`; none where it cannot be read.
pub fn folders_named(parent: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(parent).into_iter().flatten().filter_map(std::result::Result::ok);
    let is_meant = |entry: &std::fs::DirEntry| {
        let has_prefix = entry.file_name().as_encoded_bytes().starts_with(prefix.as_bytes());
        has_prefix && entry.file_type().is_ok_and(|kind| kind.is_dir())
    };
    entries.filter(is_meant).map(|entry| entry.path()).collect()
}

/// Removes the unused draft folders in `parent`; none where the file system has no locks.
pub fn remove_leftovers(parent: &Path) {
    for folder in draft_folders(parent) {
        match Lock::take_existing(&folder.join(LOCK)) {
            Ok(Attempt::Taken(lock)) => {
                clear(&folder);
                drop(lock);
            }
            // Its process ended before it had a lock, or is about to make one, and makes another folder then.
            Err(e) if e.kind() == io::ErrorKind::NotFound => (),
            _ => continue,
        }
        // Whatever is in it keeps it.
        let _ = std::fs::remove_dir(folder);
    }
}

/// Removes the contents of a folder, the lock last: a folder without a lock looks newly created.
fn clear(folder: &Path) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(std::result::Result::ok);
    for entry in entries.filter(|entry| entry.file_name() != LOCK) {
        let _ = match entry.file_type() {
            Ok(kind) if kind.is_dir() => std::fs::remove_dir_all(entry.path()),
            _ => std::fs::remove_file(entry.path()),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers_go_and_what_is_in_use_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx");
        let in_use = DraftFolder::beside(&path).unwrap();
        std::fs::write(in_use.draft_of(&path), "half a m").unwrap();
        let left = |name: &str, files: &[&str]| {
            let folder = folder.path().join(format!("{PREFIX}{name}"));
            std::fs::create_dir(&folder).unwrap();
            files.iter().for_each(|file| std::fs::write(folder.join(file), "left").unwrap());
            folder
        };
        let gone = [left("killed", &[LOCK, "model.onnx"]), left("early", &[]), left("late", &[LOCK])];
        let without_lock = left("other", &["model.onnx"]);
        drop(DraftFolder::beside(&path).unwrap());
        let wrong: Vec<&PathBuf> = gone.iter().filter(|folder| folder.exists()).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
        assert!(without_lock.exists() && in_use.draft_of(&path).exists());
        drop(in_use);
        assert_eq!(draft_folders(folder.path()), [without_lock]);
    }
}
