//! The ONNX Runtime library of this process: loaded once, and then the same for every session.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::ep::ExecutionProvider;

use super::{file, provision};
use crate::error::{Error, Result};

/// The oldest minor version of ONNX Runtime 1 that works.
pub const OLDEST_MINOR: u32 = 24;

/// The environment variable that keeps ONNX Runtime from sending usage data and from leaving an identifier in the
/// user's cache folder. It is read when the library is loaded; later settings have no effect (seen in 1.31). Setting it
/// is sound only in a process without other threads, so the program does it first, and users of this crate must do it
/// themselves.
pub const TELEMETRY_SWITCH: &str = "ORT_DISABLE_TELEMETRY";

/// The library is global to the process: a second one cannot be loaded.
static LOADED: Mutex<Option<(PathBuf, ort::environment::Environment)>> = Mutex::new(None);

/// Returns the version of the library at `path`, or why it cannot be used. The library is not kept loaded.
///
/// # Errors
/// The reason, in words.
#[cfg(feature = "load-dynamic")]
pub fn examine(path: &Path) -> Result<String, String> {
    let is_name = path.components().count() == 1;
    if !is_name && !path.is_file() {
        return Err("no such file".to_owned());
    }
    if !is_name {
        file::check_whole(path)?;
        provision::check_size(path)?;
    }
    match ort::util::probe(path) {
        None if is_name => Err("no such file, and no library of this name is installed".to_owned()),
        None => Err("is not an ONNX Runtime 1 library for this system".to_owned()),
        Some(minor) if minor < OLDEST_MINOR => Err(format!("version 1.{minor}, expected 1.{OLDEST_MINOR} or newer")),
        Some(minor) => Ok(version_in_path(path, minor)),
    }
}

/// Returns the version of the linked library, whatever `path`.
///
/// # Errors
/// None.
#[cfg(not(feature = "load-dynamic"))]
pub fn examine(_path: &Path) -> Result<String, String> {
    Ok(format!("1.{}", ort::MINOR_VERSION))
}

/// Returns the version: the binding reports only the minor version; the patch level is in the name of the file or
/// folder.
#[cfg(feature = "load-dynamic")]
fn version_in_path(path: &Path, minor: u32) -> String {
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let text = real.to_string_lossy();
    let prefix = format!("1.{minor}.");
    let starts = text.match_indices(&prefix).map(|(at, _)| at);
    let patch = |at: usize| {
        let whole = !text[..at].ends_with(|c: char| c.is_ascii_digit() || c == '.');
        let digits: String = text[at + prefix.len()..].chars().take_while(char::is_ascii_digit).collect();
        let after_version_dot = text[..at].ends_with("so.") || text[..at].ends_with("onnxruntime.");
        ((whole || after_version_dot) && !digits.is_empty()).then_some(digits)
    };
    match starts.filter_map(patch).last() {
        Some(patch) => format!("{prefix}{patch}"),
        None => format!("1.{minor}"),
    }
}

/// Returns the environment of the library at `path`, loading it on first use. Logs a warning if the process did not set
/// [`TELEMETRY_SWITCH`].
///
/// # Errors
/// [`Error::Resources`] when the file is not a usable library, or another one is loaded already.
pub fn load(path: &Path) -> Result<ort::environment::Environment> {
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((first, environment)) = &*loaded {
        if *first != real {
            return Err(Error::Resources(format!(
                "ONNX Runtime at {}: another library is loaded already ({}); one process can use one",
                real.display(),
                first.display()
            )));
        }
        return Ok(environment.clone());
    }
    if std::env::var_os(TELEMETRY_SWITCH).is_none() {
        tracing::warn!("ONNX Runtime sends usage data; set {TELEMETRY_SWITCH}=1 before the process starts threads");
    }
    let refused =
        |e: &dyn std::fmt::Display| Error::Resources(format!("cannot load ONNX Runtime from {}: {e}", real.display()));
    #[cfg(feature = "load-dynamic")]
    let builder = {
        examine(&real).map_err(|why| refused(&why))?;
        ort::init_from(&real).map_err(|e| refused(&e))?
    };
    #[cfg(not(feature = "load-dynamic"))]
    let builder = ort::init();
    let environment = builder.with_name("dfq-onnx").with_telemetry(false).build().map_err(|e| refused(&e))?;
    environment.set_log_level(ort::logging::LogLevel::Warning);
    *loaded = Some((real, environment.clone()));
    Ok(environment)
}

/// Returns the execution providers that the library at `path` was built with, as far as this program supports them.
///
/// # Errors
/// As [`load`].
pub fn providers(path: &Path) -> Result<Vec<String>> {
    load(path)?;
    let known = [
        (ort::ep::CPU::NAME, ort::ep::CPU::is_available()),
        (ort::ep::CUDA::NAME, ort::ep::CUDA::is_available()),
        (ort::ep::TensorRT::NAME, ort::ep::TensorRT::is_available()),
    ];
    let available = known.into_iter().filter(|(_, available)| matches!(available, Ok(true)));
    Ok(available.map(|(name, _)| name.to_owned()).collect())
}

#[cfg(all(test, feature = "load-dynamic"))]
mod tests {
    use super::*;

    #[test]
    fn finds_the_patch_level_in_the_path() {
        let cases = [
            ("/a/libonnxruntime.so.1.31.1", 31, "1.31.1"),
            ("/a/libonnxruntime.1.31.2.dylib", 31, "1.31.2"),
            ("/cache/onnxruntime-1.31.1/onnxruntime.dll", 31, "1.31.1"),
            ("/a/libonnxruntime.so", 30, "1.30"),
            ("/a/libonnxruntime.so.1.30.0", 31, "1.31"),
            ("/tool-4.1.31.7/libonnxruntime.so", 31, "1.31"),
        ];
        for (path, minor, expected) in cases {
            assert_eq!(version_in_path(Path::new(path), minor), expected, "{path}");
        }
    }
}
