//! Reads regular files, up to a limit.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::error::{Error, Result};

/// Returns the file at `path`, opened for reading.
///
/// # Errors
/// [`Error::Read`] for anything but a regular file: pipes may block, and devices may never end.
pub fn open(path: &Path) -> Result<File> {
    // Before opening, which waits for a writer where the path is a pipe.
    let kind = std::fs::metadata(path).map_err(Error::read(path))?.file_type();
    if !kind.is_file() {
        let found = if kind.is_dir() { "is a directory" } else { "is not a regular file" };
        return Err(Error::read(path)(io::Error::other(found)));
    }
    File::open(path).map_err(Error::read(path))
}

/// Returns the contents of the file at `path`, at most `most` bytes.
///
/// # Errors
/// As [`open`]; [`Error::Malformed`] for a longer file.
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    let mut contents = Vec::new();
    open(path)?.take(most.saturating_add(1)).read_to_end(&mut contents).map_err(Error::read(path))?;
    if u64::try_from(contents.len()).is_ok_and(|bytes| bytes <= most) {
        return Ok(contents);
    }
    Err(Error::malformed(path.display().to_string(), format!("is longer than {most} bytes, the most for such a file")))
}

/// Returns the first bytes of the file at `path`, `most` of them.
///
/// # Errors
/// As [`open`].
pub fn start_of(path: &Path, most: u64) -> Result<Vec<u8>> {
    let mut start = Vec::new();
    open(path)?.take(most).read_to_end(&mut start).map_err(Error::read(path))?;
    Ok(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_its_bound() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("statistics.json");
        std::fs::write(&path, "0123456789").unwrap();
        assert_eq!(read(&path, 10).unwrap(), b"0123456789");
        assert_eq!(start_of(&path, 3).unwrap(), b"012");
        let error = read(&path, 9).unwrap_err();
        assert!(error.exit_code() == 3 && error.to_string().contains("longer than 9 bytes"), "{error}");
    }
}
