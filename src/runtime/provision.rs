//! Fetches the pinned ONNX Runtime library through pip into the cache folder.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::machine;
use crate::digest::sha256_of_file;

/// The version that is fetched.
pub const VERSION: &str = "1.31.1";

/// A wheel of [`VERSION`] and the library in it.
struct Wheel {
    os: &'static str,
    arch: &'static str,
    platform: &'static str,
    library: &'static str,
    sha256: &'static str,
}

/// Always those for CPython 3.12: pip fetches them from any Python, and the library in them depends on none.
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

/// Returns the library in the cache folder, fetched there where it is missing; says so in one line on stderr.
///
/// Processes and threads wait for one another, so that it is fetched once.
///
/// # Errors
/// What failed, in words: no wheel for this platform, no Python or pip, no network, a wrong checksum, no space.
pub fn provision(cache: &Path) -> Result<PathBuf, String> {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let wheel = wheel_for(os, arch).ok_or_else(|| format!("there is no wheel of version {VERSION} for {os} {arch}"))?;
    let folder = folder(cache);
    let target = folder.join(wheel.library);
    std::fs::create_dir_all(&folder).map_err(|e| format!("cannot create {}: {e}", folder.display()))?;
    let lock_path = folder.join("lock");
    let lock = File::create(&lock_path).map_err(|e| format!("cannot create {}: {e}", lock_path.display()))?;
    lock.lock().map_err(|e| format!("cannot lock {}: {e}", lock_path.display()))?;
    if target.is_file() {
        return Ok(target);
    }
    // A closed stderr is no reason to stop.
    let _ = writeln!(
        std::io::stderr(),
        "fetching ONNX Runtime {VERSION} into {} (once; --offline forbids it)",
        folder.display()
    );
    let work = tempfile::Builder::new().prefix(".fetch-").tempdir_in(&folder);
    let work = work.map_err(|e| format!("cannot write into {}: {e}", folder.display()))?;
    let archive = download(wheel, work.path())?;
    check(&archive, wheel.sha256)?;
    let unpacked = work.path().join(wheel.library);
    unpack(&archive, wheel.library, &unpacked)?;
    std::fs::rename(&unpacked, &target).map_err(|e| format!("cannot write {}: {e}", target.display()))?;
    Ok(target)
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
    let unreadable = |e: std::io::Error| format!("cannot read {}: {e}", archive.display());
    let found = sha256_of_file(archive).map_err(unreadable)?;
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

/// Returns the name under which Python runs, `None` where there is none.
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
