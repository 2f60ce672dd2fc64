//! Checks that a library's file is complete. The system's loader maps a truncated file without a check, and the process
//! is then killed by a signal at the first missing page.

use std::path::Path;

use object::read::macho::{FatArch, MachOFatFile32, MachOFatFile64};
use object::read::{ReadCache, ReadCacheOps};
use object::{FileKind, Object, ObjectSegment};

use crate::files;

/// Checks that every loaded part of the ELF, Mach-O or PE file at `path` lies inside the file.
///
/// # Errors
/// The reason why it is incomplete or not such a file, in words.
pub(super) fn check_whole(path: &Path) -> Result<(), String> {
    let file = files::open(path).map_err(|e| format!("{:#}", anyhow::Error::from(e)))?;
    let bytes = file.metadata().map_err(|e| e.to_string())?.len();
    let parts = parts(&ReadCache::new(file)).map_err(|e| format!("is not a library, or is truncated ({e})"))?;
    let end = parts.iter().map(|(offset, size)| offset.saturating_add(*size)).max().unwrap_or(0);
    match end {
        0 => Err("holds nothing to load".to_owned()),
        _ if end > bytes => Err(format!("is truncated: it has {bytes} bytes of at least {end}")),
        _ => Ok(()),
    }
}

/// Returns the offsets and sizes of the loaded parts of a file.
fn parts<R: ReadCacheOps>(data: &ReadCache<R>) -> object::Result<Vec<(u64, u64)>> {
    match FileKind::parse(data)? {
        FileKind::MachOFat32 => Ok(ranges(MachOFatFile32::parse(data)?.arches())),
        FileKind::MachOFat64 => Ok(ranges(MachOFatFile64::parse(data)?.arches())),
        _ => Ok(object::File::parse(data)?.segments().map(|segment| segment.file_range()).collect()),
    }
}

fn ranges(arches: &[impl FatArch]) -> Vec<(u64, u64)> {
    arches.iter().map(FatArch::file_range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns an ELF file of one segment of `size` bytes, of which `held` are there.
    fn elf(size: u64, held: usize) -> Vec<u8> {
        let mut header = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        for (value, width) in [(3, 2), (62, 2), (1, 4), (0, 8), (64, 8), (0, 8), (0, 4), (64, 2), (56, 2), (1, 2)] {
            header.extend(&u64::to_le_bytes(value)[..width]);
        }
        // No sections.
        header.resize(64, 0);
        for (value, width) in [(1, 4), (5, 4), (0, 8), (0, 8), (0, 8), (size, 8), (size, 8), (4096, 8)] {
            header.extend(&u64::to_le_bytes(value)[..width]);
        }
        header.resize(header.len().max(held), 0);
        header.truncate(held);
        header
    }

    /// Returns a universal Mach-O file of one architecture whose `size` bytes begin at 64.
    fn universal(size: u32, held: usize) -> Vec<u8> {
        let fields = [0xcafe_babe_u32, 1, 0x0100_000c, 0, 64, size, 0];
        let mut bytes: Vec<u8> = fields.iter().flat_map(|field| field.to_be_bytes()).collect();
        bytes.resize(held, 0);
        bytes
    }

    #[test]
    fn truncated_files_are_not_libraries() {
        let cases: &[(&str, Vec<u8>, Option<&str>)] = &[
            ("whole ELF", elf(5000, 5000), None),
            ("cut ELF", elf(5000, 4999), Some("has 4999 bytes of at least 5000")),
            ("header alone", elf(5000, 80), Some("not a library, or is truncated")),
            ("whole universal file", universal(100, 164), None),
            ("cut universal file", universal(100, 163), Some("has 163 bytes of at least 164")),
            ("text", b"some text".to_vec(), Some("not a library")),
            ("empty", Vec::new(), Some("not a library")),
        ];
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lib");
        let mut wrong = Vec::new();
        for (name, bytes, expected) in cases {
            std::fs::write(&path, bytes).unwrap();
            let found = check_whole(&path).err();
            let is_right = match (&found, expected) {
                (Some(found), Some(expected)) => found.contains(expected),
                (found, expected) => found.is_none() && expected.is_none(),
            };
            if !is_right {
                wrong.push(format!("{name}: {found:?}"));
            }
        }
        assert!(wrong.is_empty(), "{wrong:?}");
        assert!(check_whole(folder.path()).is_err(), "a folder");
        assert_eq!(check_whole(&std::env::current_exe().unwrap()), Ok(()), "this program itself");
    }
}
