//! Checksums.

mod watched;

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::files;

pub use watched::Watched;

/// Returns the sha256 of all parts together, in hexadecimal digits.
pub fn sha256<'p>(parts: impl IntoIterator<Item = &'p [u8]>) -> String {
    let mut digest = Sha256::new();
    parts.into_iter().for_each(|part| digest.update(part));
    hexadecimal(digest)
}

/// Returns the sha256 of a file, read in pieces.
///
/// # Errors
/// [`Error::Read`] when it cannot be read or is not a regular file.
pub fn sha256_of_file(path: &Path) -> Result<String> {
    let (mut file, mut digest) = (BufReader::with_capacity(1 << 16, files::open(path)?), Sha256::new());
    loop {
        let piece = file.fill_buf().map_err(Error::read(path))?;
        if piece.is_empty() {
            return Ok(hexadecimal(digest));
        }
        digest.update(piece);
        let read = piece.len();
        file.consume(read);
    }
}

/// A writer that computes the checksum of its output.
pub struct Hashed<W> {
    writer: W,
    digest: Sha256,
}

impl<W: Write> Hashed<W> {
    /// Returns a writer to `writer`.
    pub fn new(writer: W) -> Self {
        Self { writer, digest: Sha256::new() }
    }

    /// Returns the sha256 of the output, in hexadecimal digits.
    pub fn sha256(self) -> String {
        hexadecimal(self.digest)
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.writer.write(bytes)?;
        self.digest.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

fn hexadecimal(digest: Sha256) -> String {
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_and_files_have_the_checksum_of_their_contents() {
        // FIPS 180-2, appendix B.1.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256([&b"a"[..], b"bc"]), abc);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "abc").unwrap();
        assert_eq!(sha256_of_file(file.path()).unwrap(), abc);
        let mut written = Hashed::new(Vec::new());
        written.write_all(b"ab").and_then(|()| written.write_all(b"c")).unwrap();
        assert_eq!(written.sha256(), abc);
    }
}
