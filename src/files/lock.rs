//! Lock files, released by the operating system when a process ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// Attempts to lock a file that its last holder is removing.
const ATTEMPTS: usize = 16;

/// A lock file held by this process, removed when dropped.
#[derive(Debug)]
pub struct Lock {
    /// Open for as long as the lock is held.
    _file: File,
    path: PathBuf,
}

/// The result of an attempt to lock.
#[derive(Debug)]
pub enum Attempt {
    /// This process holds it.
    Taken(Lock),
    /// Another process holds it.
    Busy,
    /// The file system has no locks.
    Unknown,
}

impl Lock {
    /// Locks the file at `path`, creating it if missing.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn take(path: &Path) -> io::Result<Attempt> {
        let mut made = OpenOptions::new();
        made.write(true).create(true).truncate(false);
        for _ in 0..ATTEMPTS {
            match Self::try_file(made.open(path)?, path) {
                Some(Attempt::Unknown) => {
                    let _ = std::fs::remove_file(path);
                    return Ok(Attempt::Unknown);
                }
                Some(attempt) => return Ok(attempt),
                None => (),
            }
        }
        Ok(Attempt::Busy)
    }

    /// Locks the existing file at `path`.
    ///
    /// # Errors
    /// When it is missing or cannot be opened.
    pub fn take_existing(path: &Path) -> io::Result<Attempt> {
        let file = OpenOptions::new().write(true).open(path)?;
        Ok(Self::try_file(file, path).unwrap_or(Attempt::Busy))
    }

    /// Returns `None` if the opened file is no longer the one at `path`.
    fn try_file(file: File, path: &Path) -> Option<Attempt> {
        match file.try_lock() {
            Ok(()) => is_at(&file, path).then(|| Attempt::Taken(Self { _file: file, path: path.to_owned() })),
            Err(TryLockError::WouldBlock) => Some(Attempt::Busy),
            Err(TryLockError::Error(e)) => {
                tracing::debug!("no lock on {}: {e}", path.display());
                Some(Attempt::Unknown)
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While it is held: whoever opened it meanwhile finds that it is gone.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let same = |a: std::fs::Metadata, b: std::fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    file.metadata().and_then(|open| Ok(same(open, std::fs::metadata(path)?))).unwrap_or(false)
}

#[cfg(not(unix))]
fn is_at(_file: &File, path: &Path) -> bool {
    path.exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_has_one_holder_and_its_file_goes_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        assert!(Lock::take_existing(&path).is_err(), "there is none");
        let first = Lock::take(&path).unwrap();
        assert!(matches!(first, Attempt::Taken(_)), "{first:?}");
        for second in [Lock::take(&path), Lock::take_existing(&path)] {
            assert!(matches!(second, Ok(Attempt::Busy)), "{second:?}");
        }
        drop(first);
        assert!(!path.exists());
        std::fs::write(&path, "").unwrap();
        assert!(matches!(Lock::take_existing(&path), Ok(Attempt::Taken(_))), "nobody holds it");
    }
}
