//! Files: read where they are regular files, and written whole or not at all, beside their destination first, then renamed.

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

/// Returns the folder that the file at `path` lies in.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Contents that are on the disk, and not yet in the place that they are for; gone where they are not published.
#[derive(Debug)]
pub struct Staged {
    folder: DraftFolder,
    path: PathBuf,
}

impl Staged {
    /// Puts the contents in the place of the file that they are for.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn publish(self) -> Result<()> {
        rename(&self.folder.draft_of(&self.path), &self.path)
    }
}

/// Writes what `fill` writes beside the file at `path`, flushed to the disk.
///
/// # Errors
/// As [`DraftFolder::beside`]; [`Error::Write`].
pub fn stage(path: &Path, fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> Result<Staged> {
    let folder = DraftFolder::beside(path)?;
    fill_new(&folder.draft_of(path), fill).map_err(Error::write(path))?;
    Ok(Staged { folder, path: path.to_owned() })
}

/// Makes the file at `path` of what `fill` writes, flushed to the disk.
///
/// # Errors
/// Where there is one already, or it cannot be written.
pub fn fill_new<T>(path: &Path, fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<T>) -> io::Result<T> {
    let mut file = BufWriter::new(OpenOptions::new().write(true).create_new(true).open(path)?);
    let made = fill(&mut file)?;
    file.into_inner()?.sync_all()?;
    Ok(made)
}

/// Puts a file in the place of that at `path`, for good.
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

/// Puts what `fill` writes in the place of the file at `path`, flushed to the disk, or leaves that as it is.
///
/// # Errors
/// As [`stage`].
pub fn replace(path: &Path, fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> Result<()> {
    stage(path, fill)?.publish()
}

/// Puts `contents` in the place of the file at `path`, or leaves that as it is.
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
