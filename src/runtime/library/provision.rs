//! Fetches the pinned ONNX Runtime library through pip into the cache folder.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use super::file::check_whole;
use crate::digest::sha256_of_file;
use crate::files;
use crate::runtime::machine;

/// The fetched version.
pub const VERSION: &str = "1.31.1";

/// The name of the lock in the folder of the library.
const LOCK: &str = "lock";
/// The prefix of folders for fetched wheels.
const FETCHED: &str = ".fetch-";
/// The name of the record of an unpacked library.
const RECORD: &str = "unpacked.json";
/// The most bytes of a record.
const LONGEST_RECORD: u64 = 1 << 16;

/// A wheel of [`VERSION`] and the library in it.
struct Wheel {
    os: &'static str,
    arch: &'static str,
    platform: &'static str,
    library: &'static str,
    sha256: &'static str,
}

/// Always the wheels for CPython 3.12: any pip can fetch them, and the library in them does not depend on Python.
const WHEELS: &[Wheel] = &[
    Wheel {
        os: "linux",
        arch: "x86_64",
        platform: "manylinux_2_28_x86_64",
        library: "libonnxruntime.so.1.31.1",
        sha256: "1f3dea47f2f0e5117c2404cea7d21fd253ae7836a3bf167a501cdfbb2600d536",
    },
    Wheel {
        os: "linux",
        arch: "aarch64",
        platform: "manylinux_2_28_aarch64",
        library: "libonnxruntime.so.1.31.1",
        sha256: "0b9a492176886992e0e875f06bc0367e333f5fff11711a2d642e18b02f3009cc",
    },
    Wheel {
        os: "macos",
        arch: "aarch64",
        platform: "macosx_14_0_arm64",
        library: "libonnxruntime.1.31.1.dylib",
        sha256: "96dd2564b10ea7153ad9c207e7cd8e5917cb3ba521e0e0a62ac03486fdc8d56c",
    },
    Wheel {
        os: "windows",
        arch: "x86_64",
        platform: "win_amd64",
        library: "onnxruntime.dll",
        sha256: "ae8a9a351efda685cc59a66226cdefaa37a126c1d66872ca23a2de9425326130",
    },
];

fn wheel_for(os: &str, arch: &str) -> Option<&'static Wheel> {
    WHEELS.iter().find(|wheel| wheel.os == os && wheel.arch == arch)
}

/// Returns whether the library can be fetched for this platform.
pub fn has_wheel() -> bool {
    wheel_for(std::env::consts::OS, std::env::consts::ARCH).is_some()
}

/// Returns the folder inside the cache folder that holds the library.
pub fn folder(cache: &Path) -> PathBuf {
    cache.join(format!("onnxruntime-{VERSION}"))
}

/// Returns the library in the cache folder, fetching it if missing, with one line on stderr.
///
/// Concurrent processes and threads fetch it once.
///
/// # Errors
/// The failure, in words: no wheel for this platform, no Python or pip, no network, a wrong checksum, no space.
pub fn provision(cache: &Path) -> Result<PathBuf, String> {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let wheel = wheel_for(os, arch).ok_or_else(|| format!("there is no wheel of version {VERSION} for {os} {arch}"))?;
    let folder = folder(cache);
    let target = folder.join(wheel.library);
    std::fs::create_dir_all(&folder).map_err(|e| format!("cannot create {}: {e}", folder.display()))?;
    let lock_path = folder.join(LOCK);
    let lock = File::create(&lock_path).map_err(|e| format!("cannot create {}: {e}", lock_path.display()))?;
    lock.lock().map_err(|e| format!("cannot lock {}: {e}", lock_path.display()))?;
    remove_fetched(&folder);
    if target.is_file() && check_whole(&target).and_then(|()| check_size(&target)).is_ok() {
        return Ok(target);
    }
    // A closed stderr is no reason to stop.
    let _ = writeln!(
        std::io::stderr(),
        "fetching ONNX Runtime {VERSION} into {} (once; --offline forbids it)",
        folder.display()
    );
    let work = tempfile::Builder::new().prefix(FETCHED).tempdir_in(&folder);
    let work = work.map_err(|e| format!("cannot write into {}: {e}", folder.display()))?;
    let archive = download(wheel, work.path())?;
    check(&archive, wheel.sha256)?;
    let unpacked = work.path().join(wheel.library);
    unpack(&archive, wheel.library, &unpacked)?;
    // Before the library, which is never there without it.
    Record::of(&unpacked)?.write(&folder)?;
    std::fs::rename(&unpacked, &target).map_err(|e| format!("cannot write {}: {e}", target.display()))?;
    Ok(target)
}

/// Removes leftovers of killed runs from the cache folder, unless another process is fetching.
pub fn remove_leftovers(cache: &Path) {
    let folder = folder(cache);
    if !files::folders_named(&folder, FETCHED).is_empty()
        && let Ok(lock) = File::create(folder.join(LOCK))
        && lock.try_lock().is_ok()
    {
        remove_fetched(&folder);
    }
}

/// Only while the lock is held.
fn remove_fetched(folder: &Path) {
    for left in files::folders_named(folder, FETCHED) {
        if let Err(e) = std::fs::remove_dir_all(&left) {
            tracing::debug!("cannot remove {}: {e}", left.display());
        }
    }
}

/// The record of an unpacked library, in a file beside it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Record {
    library: String,
    bytes: u64,
    sha256: String,
}

impl Record {
    fn of(library: &Path) -> Result<Self, String> {
        let bytes = std::fs::metadata(library).map_err(|e| e.to_string())?.len();
        let sha256 = sha256_of_file(library).map_err(|e| e.to_string())?;
        Ok(Self { library: name_of(library), bytes, sha256 })
    }

    fn write(&self, folder: &Path) -> Result<(), String> {
        let json = serde_json::to_string_pretty(self).map_err(|e| e.to_string())?;
        files::write(&folder.join(RECORD), json.as_bytes()).map_err(|e| e.to_string())
    }

    /// Returns the record of the library at `path`; `None` if it was not unpacked by this program.
    fn read(path: &Path) -> Option<Self> {
        let text = files::read(&path.with_file_name(RECORD), LONGEST_RECORD).ok()?;
        let record: Self = serde_json::from_slice(&text).ok()?;
        (record.library == name_of(path)).then_some(record)
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Checks that the library at `path` has its recorded size, if there is a record.
///
/// # Errors
/// Both sizes, in words.
pub fn check_size(path: &Path) -> Result<(), String> {
    let Some(Record { bytes, .. }) = Record::read(path) else { return Ok(()) };
    match std::fs::metadata(path).map_err(|e| e.to_string())?.len() {
        found if found == bytes => Ok(()),
        found => Err(format!("has {found} bytes, {bytes} were unpacked")),
    }
}

/// Checks that the library at `path` has its recorded digest, if there is a record. Reads the whole file.
///
/// # Errors
/// Both digests, in words.
pub fn check_digest(path: &Path) -> Result<(), String> {
    let Some(Record { sha256, .. }) = Record::read(path) else { return Ok(()) };
    match sha256_of_file(path).map_err(|e| e.to_string())? {
        found if found == sha256 => Ok(()),
        found => Err(format!("has sha256 {found}, {sha256} was unpacked; delete it, and it is fetched again")),
    }
}

fn download(wheel: &Wheel, folder: &Path) -> Result<PathBuf, String> {
    const OPTIONS: &[&str] =
        &["--quiet", "--no-input", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"];
    const PYTHON: &[&str] = &["--implementation", "cp", "--python-version", "312", "--abi", "cp312"];
    let python = python_program().ok_or("Python, whose pip would fetch it, is not installed")?;
    let mut command = Command::new(python);
    command
        .args(["-m", "pip", "download"])
        .args(OPTIONS)
        .args(PYTHON)
        .args(["--platform", wheel.platform])
        .arg("-d")
        .arg(folder);
    command.arg(format!("onnxruntime=={VERSION}")).stdin(Stdio::null());
    let output = command.output().map_err(|e| format!("cannot run pip: {e}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let line = text.lines().rev().find(|line| line.contains("ERROR")).or(text.lines().last());
        return Err(format!("pip could not fetch it ({})", line.unwrap_or("no message").trim()));
    }
    let entries = std::fs::read_dir(folder).map_err(|e| format!("cannot read {}: {e}", folder.display()))?;
    let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .ok_or_else(|| "pip reported success and left no wheel".to_owned())
}

fn check(archive: &Path, expected: &str) -> Result<(), String> {
    let found = sha256_of_file(archive).map_err(|e| e.to_string())?;
    if found == expected { Ok(()) } else { Err(format!("the fetched wheel has sha256 {found}, expected {expected}")) }
}

fn unpack(archive: &Path, library: &str, to: &Path) -> Result<(), String> {
    let broken = |e: &dyn std::fmt::Display| format!("cannot unpack {library} from {}: {e}", archive.display());
    let file = File::open(archive).map_err(|e| broken(&e))?;
    let mut zip = zip::ZipArchive::new(file).map_err(|e| broken(&e))?;
    let mut entry = zip.by_name(&format!("onnxruntime/capi/{library}")).map_err(|e| broken(&e))?;
    let mut out = File::create(to).map_err(|e| broken(&e))?;
    std::io::copy(&mut entry, &mut out).map_err(|e| broken(&e))?;
    out.sync_all().map_err(|e| broken(&e))
}

/// Returns the command that runs Python, if any.
pub fn python_program() -> Option<&'static str> {
    ["python3", "python"].into_iter().find(|name| machine::output(name, &["--version"]).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_without_a_wheel_have_none() {
        assert!(wheel_for("linux", "x86_64").is_some());
        assert!(wheel_for("macos", "x86_64").is_none());
    }

    #[test]
    fn a_library_is_held_against_what_was_unpacked() {
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("libonnxruntime.so.1.31.1");
        std::fs::write(&library, "a library").unwrap();
        let both = |path: &Path| (check_size(path).is_ok(), check_digest(path).is_ok());
        assert_eq!(both(&library), (true, true), "nothing is known");
        Record::of(&library).unwrap().write(folder.path()).unwrap();
        assert_eq!(both(&library), (true, true));
        std::fs::write(&library, "a laptop.").unwrap();
        assert_eq!(both(&library), (true, false));
        std::fs::write(&library, "a lib").unwrap();
        assert_eq!(both(&library), (false, false));
        assert!(check_size(&library).unwrap_err().contains("has 5 bytes, 9 were unpacked"));
        let other = folder.path().join("libonnxruntime.so.1.24.0");
        std::fs::write(&other, "another one").unwrap();
        assert_eq!(both(&other), (true, true), "another library is not the one that was unpacked");
    }

    #[test]
    fn what_a_killed_run_fetched_goes_unless_another_one_fetches() {
        let cache = tempfile::tempdir().unwrap();
        let left = folder(cache.path()).join(".fetch-abc");
        std::fs::create_dir_all(left.join("onnxruntime")).unwrap();
        let lock = File::create(folder(cache.path()).join(LOCK)).unwrap();
        lock.lock().unwrap();
        remove_leftovers(cache.path());
        assert!(left.exists());
        drop(lock);
        remove_leftovers(cache.path());
        assert!(!left.exists());
    }

    #[test]
    fn a_wrong_checksum_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(check(file.path(), empty), Ok(()));
        assert!(check(file.path(), WHEELS[0].sha256).unwrap_err().contains("expected 1f3dea47"));
    }

    #[test]
    fn a_file_that_is_no_wheel_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = unpack(file.path(), "libonnxruntime.so.1.31.1", Path::new("never-written")).unwrap_err();
        assert!(error.starts_with("cannot unpack libonnxruntime.so.1.31.1"), "{error}");
    }
}
