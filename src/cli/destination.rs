//! Where `quantize` writes: looked at before the work begins, so that nothing is left behind where it cannot.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Returns where the model and the report go, symbolic links followed.
///
/// # Errors
/// [`Error::Usage`] for a path that is the model itself, a directory, a device or the other of the two;
/// [`Error::Write`] where the folder takes no new file.
pub(super) fn destinations(model: &Path, output: &Path, report: &Path) -> Result<[PathBuf; 2]> {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let (from, output, report) = (real(model), real(output), real(report));
    for path in [&output, &report] {
        refuse_other_than_files(path)?;
        if *path == from {
            return Err(Error::Usage(format!("{} is the model itself; name another file", path.display())));
        }
    }
    if output == report {
        return Err(Error::Usage(format!("{} is both --output and --report; name two files", output.display())));
    }
    for path in [&output, &report] {
        tempfile::NamedTempFile::new_in(folder_of(path)).map_err(|e| Error::write(path)(plain(&e)))?;
    }
    Ok([output, report])
}

fn refuse_other_than_files(path: &Path) -> Result<()> {
    let refused = |what: &str| Err(Error::Usage(format!("{} {what}; name a file to be written", path.display())));
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => refused("is a directory"),
        Ok(found) if !found.is_file() => refused("is no regular file"),
        _ if path.file_name().is_none() => refused("names no file"),
        _ => Ok(()),
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Returns the error without the name of the temporary file, which means nothing to the user.
fn plain(error: &std::io::Error) -> std::io::Error {
    error.raw_os_error().map_or_else(|| error.kind().into(), std::io::Error::from_raw_os_error)
}

/// Writes a whole file or nothing.
pub(super) fn write_whole(path: &Path, contents: &[u8]) -> Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(folder_of(path)).map_err(|e| Error::write(path)(plain(&e)))?;
    file.write_all(contents).map_err(Error::write(path))?;
    file.persist(path).map_err(|e| Error::write(path)(e.error))?;
    Ok(())
}
