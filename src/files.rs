//! Files that are written whole or not at all: beside their destination first, then renamed.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::error::{Error, Result};

/// Returns the folder that the file at `path` lies in.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Returns a folder of its own beside `path`, which goes with what is still in it when it is dropped, and the path in it of
/// what is to take the place of the file at `path`.
///
/// # Errors
/// [`Error::Usage`] where the path names no file; [`Error::Write`] where its folder takes no new one.
pub fn draft_of(path: &Path) -> Result<(TempDir, PathBuf)> {
    let name = path.file_name().ok_or_else(|| Error::Usage(format!("{} names no file", path.display())))?;
    let parent = folder_of(path);
    if !parent.exists() {
        let parent = parent.display();
        let message =
            format!("there is no folder {parent}; create it (mkdir -p {parent}), or name a file in another one");
        return Err(Error::write(path)(io::Error::new(io::ErrorKind::NotFound, message)));
    }
    // The name of the temporary folder means nothing to the user.
    let plain = |e: io::Error| e.raw_os_error().map_or_else(|| e.kind().into(), io::Error::from_raw_os_error);
    let made = tempfile::Builder::new().prefix(".dfq-onnx-").tempdir_in(parent);
    let folder = made.map_err(|e| Error::write(path)(plain(e)))?;
    let draft = folder.path().join(name);
    Ok((folder, draft))
}

/// Puts what `fill` writes in the place of the file at `path`, flushed to the disk, or leaves that as it is.
///
/// # Errors
/// As [`draft_of`]; [`Error::Write`].
pub fn replace(path: &Path, fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> Result<()> {
    let (_folder, draft) = draft_of(path)?;
    let written = || {
        let mut file = BufWriter::new(OpenOptions::new().write(true).create_new(true).open(&draft)?);
        fill(&mut file)?;
        file.into_inner()?.sync_all()?;
        std::fs::rename(&draft, path)?;
        // The new name lasts once its folder has reached the disk; only Unix opens folders as files.
        if cfg!(unix) { File::open(folder_of(path))?.sync_all() } else { Ok(()) }
    };
    written().map_err(Error::write(path))
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
