//! Files: reads regular files only, and writes atomically: beside the destination first, then renamed.

mod draft;
mod lock;
mod read;

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

pub use draft::{DraftFolder, draft_folders, folders_named, remove_leftovers};
pub use lock::{Attempt, Lock};
pub use read::{open, read, start_of};

/// Returns the folder of the file at `path`.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A written draft, not yet renamed to its destination; removed if not published.
#[derive(Debug)]
pub struct Staged {
    folder: DraftFolder,
    path: PathBuf,
}

impl Staged {
    /// Renames the draft to its destination.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn publish(self) -> Result<()> {
        rename(&self.folder.draft_of(&self.path), &self.path)
    }
}

/// Writes the output of `fill` to a draft beside `path`, flushed to disk.
///
/// # Errors
/// As [`DraftFolder::beside`]; [`Error::Write`].
pub fn stage(path: &Path, fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> Result<Staged> {
    let folder = DraftFolder::beside(path)?;
    fill_new(&folder.draft_of(path), fill).map_err(Error::write(path))?;
    Ok(Staged { folder, path: path.to_owned() })
}

/// Creates the file at `path` from the output of `fill`, flushed to disk.
///
/// # Errors
/// When it exists already or cannot be written.
pub fn fill_new<T>(path: &Path, fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<T>) -> io::Result<T> {
    let mut file = BufWriter::new(OpenOptions::new().write(true).create_new(true).open(path)?);
    let made = fill(&mut file)?;
    file.into_inner()?.sync_all()?;
    Ok(made)
}

/// Renames a file to `path`, durably.
///
/// # Errors
/// [`Error::Write`].
pub fn rename(from: &Path, path: &Path) -> Result<()> {
    let renamed = || {
        std::fs::rename(from, path)?;
        // The new name lasts once its folder has reached the disk; only Unix opens folders as files.
        if cfg!(unix) { File::open(folder_of(path))?.sync_all() } else { Ok(()) }
    };
    renamed().map_err(Error::write(path))
}

/// Replaces the file at `path` by the output of `fill`, flushed to disk; leaves it unchanged on failure.
///
/// # Errors
/// As [`stage`].
pub fn replace(path: &Path, fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> Result<()> {
    stage(path, fill)?.publish()
}

/// Replaces the file at `path` by `contents`; leaves it unchanged on failure.
///
/// # Errors
/// As [`replace`].
pub fn write(path: &Path, contents: &[u8]) -> Result<()> {
    replace(path, |file| file.write_all(contents))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stops_while_it_is_written_leaves_the_old_file_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stage.safetensors");
        write(&path, b"old").unwrap();
        let failed = replace(&path, |file| {
            file.write_all(b"half of the n")?;
            file.flush()?;
            Err(io::ErrorKind::StorageFull.into())
        });
        assert!(matches!(&failed, Err(e @ Error::Write { .. }) if e.exit_code() == 5), "{failed:?}");
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "something was left behind");
        write(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
    }

    #[cfg(unix)]
    #[test]
    fn who_may_read_a_file_is_as_for_any_other_new_one() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let [ours, plain] = ["ours", "plain"].map(|name| folder.path().join(name));
        write(&ours, b"a report").unwrap();
        std::fs::write(&plain, b"a report").unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&plain));
    }
}
