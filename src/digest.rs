//! Checksums.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use sha2::{Digest, Sha256};

/// Returns the sha256 of all parts together, in hexadecimal digits.
pub fn sha256<'p>(parts: impl IntoIterator<Item = &'p [u8]>) -> String {
    let mut digest = Sha256::new();
    parts.into_iter().for_each(|part| digest.update(part));
    hexadecimal(digest)
}

/// Returns the sha256 of what a file holds, which is read in pieces.
///
/// # Errors
/// When it cannot be read.
pub fn sha256_of_file(path: &Path) -> io::Result<String> {
    let (mut file, mut digest) = (BufReader::with_capacity(1 << 16, File::open(path)?), Sha256::new());
    loop {
        let piece = file.fill_buf()?;
        if piece.is_empty() {
            return Ok(hexadecimal(digest));
        }
        digest.update(piece);
        let read = piece.len();
        file.consume(read);
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
    }
}
