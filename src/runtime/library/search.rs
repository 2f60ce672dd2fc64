//! Searches the places of an ONNX Runtime library on this machine for a usable one.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{load, provision};
use crate::error::{Error, Result};
use crate::runtime::machine;

/// The environment variable that names a library.
pub const LIBRARY_VARIABLE: &str = "ORT_DYLIB_PATH";

/// The place of a library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// `--ort-lib`.
    Argument,
    /// `ORT_DYLIB_PATH`.
    Environment,
    /// The folder of the executable, or `lib` beside it.
    Executable,
    /// The cache folder, from an earlier run.
    Cache,
    /// An installed Python package.
    PythonPackage,
    /// The system's library path.
    System,
    /// The cache folder, fetched by this run.
    Provisioned,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Argument => "--ort-lib",
            Self::Environment => "ORT_DYLIB_PATH",
            Self::Executable => "beside the executable",
            Self::Cache => "cache folder",
            Self::PythonPackage => "Python package",
            Self::System => "system library",
            Self::Provisioned => "fetched into the cache folder",
        })
    }
}

impl Origin {
    /// Returns whether the user named the file, which excludes other places.
    fn is_explicit(self) -> bool {
        matches!(self, Self::Argument | Self::Environment)
    }
}

/// A usable library.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Found {
    /// Its place.
    pub origin: Origin,
    /// The file, or a name for the system's loader.
    #[serde(serialize_with = "crate::shown::path")]
    pub path: PathBuf,
    /// Its version, such as `1.31.1`.
    pub version: String,
}

/// The places to search, in order.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// The file of `--ort-lib`.
    pub argument: Option<PathBuf>,
    /// The file of `ORT_DYLIB_PATH`.
    pub environment: Option<PathBuf>,
    /// The folder of the executable.
    pub executable_folder: Option<PathBuf>,
    /// The cache folder; a missing library is fetched into it.
    pub cache: Option<PathBuf>,
    /// Whether to ask Python for an installed package.
    pub python: bool,
    /// Whether to ask the system's loader.
    pub system: bool,
}

impl Places {
    /// Returns all places of this process; `ort_lib` is the file of `--ort-lib`.
    pub fn of_this_process(ort_lib: Option<&Path>) -> Self {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        // A bare name is a name for the system's loader, unless the file is there.
        let file = |path: PathBuf| if path.is_file() { std::path::absolute(&path).unwrap_or(path) } else { path };
        Self {
            argument: ort_lib.map(Path::to_owned).map(file),
            environment: variable(LIBRARY_VARIABLE).map(PathBuf::from).map(file),
            executable_folder: std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.to_owned())),
            cache: cache_folder(std::env::consts::OS, variable),
            python: true,
            system: true,
        }
    }

    /// Returns whether the user named a library.
    pub fn names_a_file(&self) -> bool {
        self.argument.is_some() || self.environment.is_some()
    }

    /// Calls `visit` with each candidate in order until it returns true. Python is started only when its turn comes.
    pub fn visit(&self, mut visit: impl FnMut(Origin, &Path) -> bool) {
        let named = [(Origin::Argument, &self.argument), (Origin::Environment, &self.environment)];
        for (origin, path) in named.into_iter().filter_map(|(origin, path)| Some((origin, path.as_ref()?))) {
            if visit(origin, path) {
                return;
            }
        }
        let beside = self.executable_folder.iter().flat_map(|folder| [folder.clone(), folder.join("../lib")]);
        let beside = beside.flat_map(|folder| libraries_in(&folder)).map(|path| (Origin::Executable, path));
        let cache = self.cache.iter().flat_map(|cache| libraries_in(&provision::folder(cache)));
        let cache = cache.map(|path| (Origin::Cache, path));
        let python = std::iter::once_with(|| if self.python { python_package() } else { None }).flatten();
        let python = python.flat_map(|folder| libraries_in(&folder)).map(|path| (Origin::PythonPackage, path));
        let system = SYSTEM_NAMES.iter().filter(|_| self.system).map(|name| (Origin::System, PathBuf::from(name)));
        for (origin, path) in beside.chain(cache).chain(python).chain(system) {
            if visit(origin, &path) {
                return;
            }
        }
    }

    /// Returns the first usable library.
    ///
    /// # Errors
    /// [`Error::Resources`] when a file that the user named cannot be used.
    pub fn search(&self) -> Result<Option<Found>> {
        let mut result = Ok(None);
        self.visit(|origin, path| match load::examine(path) {
            Ok(version) => {
                result = Ok(Some(Found { origin, path: path.to_owned(), version }));
                true
            }
            Err(why) if origin.is_explicit() => {
                result = Err(Error::Resources(format!(
                    "ONNX Runtime library {} (from {origin}): {why}; name the libonnxruntime file of version 1.{} or \
                     newer, or leave it out to search for one",
                    path.display(),
                    load::OLDEST_MINOR
                )));
                true
            }
            Err(why) => {
                match origin {
                    Origin::Cache => tracing::warn!("skipped {}: {why}", path.display()),
                    _ => tracing::debug!("{} ({origin}): {why}", path.display()),
                }
                false
            }
        });
        result
    }
}

/// Returns the first usable library of `places`, or fetches one into the cache folder.
///
/// # Errors
/// [`Error::Resources`] when a file that the user named cannot be used, or when none is found and `offline` forbids
/// fetching one or fetching fails.
pub fn locate(places: &Places, offline: bool) -> Result<Found> {
    if let Some(found) = places.search()? {
        places.cache.as_deref().into_iter().for_each(provision::remove_leftovers);
        return Ok(found);
    }
    let advice = "name a library with --ort-lib, install the Python package onnxruntime, or use --engine tract";
    if offline {
        return Err(Error::Resources(format!(
            "no ONNX Runtime library was found, and --offline forbids fetching one; {advice}"
        )));
    }
    let Some(cache) = &places.cache else {
        return Err(Error::Resources(format!(
            "no ONNX Runtime library was found, and there is no cache folder to fetch one into; set DFQ_ONNX_CACHE, \
             {advice}"
        )));
    };
    let refused = |why: String| Error::Resources(format!("no ONNX Runtime library was found: {why}; {advice}"));
    let path = provision::provision(cache).map_err(refused)?;
    let version = load::examine(&path).map_err(|why| refused(format!("the fetched {}: {why}", path.display())))?;
    Ok(Found { origin: Origin::Provisioned, path, version })
}

/// Library names for the system's loader.
const SYSTEM_NAMES: &[&str] = if cfg!(target_os = "windows") {
    &["onnxruntime.dll"]
} else if cfg!(target_os = "macos") {
    &["libonnxruntime.dylib"]
} else {
    &["libonnxruntime.so", "libonnxruntime.so.1"]
};

fn libraries_in(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut found: Vec<PathBuf> =
        paths.filter(|path| path.file_name().is_some_and(|name| is_library(&name.to_string_lossy()))).collect();
    found.sort();
    found
}

fn is_library(name: &str) -> bool {
    name == "onnxruntime.dll"
        || name == "libonnxruntime.so"
        || name.starts_with("libonnxruntime.so.")
        || (name.starts_with("libonnxruntime.") && name.ends_with(".dylib"))
}

/// Returns the folder of the libraries inside an installed Python package, without importing it.
fn python_package() -> Option<PathBuf> {
    const SCRIPT: &str = "import importlib.util as u, os; s = u.find_spec('onnxruntime'); \
                          print(os.path.join(s.submodule_search_locations[0], 'capi') if s else '')";
    let lines = machine::output(provision::python_program()?, &["-c", SCRIPT])?;
    lines.into_iter().next().map(PathBuf::from)
}

/// Returns the cache folder of this program on the operating system `os`, from its environment variables.
pub fn cache_folder(os: &str, variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    if let Some(own) = variable("DFQ_ONNX_CACHE") {
        return Some(own.into());
    }
    let base = |name: &str| variable(name).map(PathBuf::from);
    let parent = match os {
        "windows" => base("LOCALAPPDATA"),
        "macos" => base("HOME").map(|home| home.join("Library/Caches")),
        _ => base("XDG_CACHE_HOME").or_else(|| Some(base("HOME")?.join(".cache"))),
    };
    Some(parent?.join("dfq-onnx"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_folder_follows_the_platform() {
        let cases = [
            ("linux", "DFQ_ONNX_CACHE=/c HOME=/h", Some("/c")),
            ("linux", "XDG_CACHE_HOME=/x HOME=/h", Some("/x/dfq-onnx")),
            ("linux", "HOME=/h", Some("/h/.cache/dfq-onnx")),
            ("macos", "HOME=/h XDG_CACHE_HOME=/x", Some("/h/Library/Caches/dfq-onnx")),
            ("windows", "LOCALAPPDATA=/l HOME=/h", Some("/l/dfq-onnx")),
            ("linux", "", None),
        ];
        for (os, variables, expected) in cases {
            let pairs: Vec<_> = variables.split_whitespace().filter_map(|pair| pair.split_once('=')).collect();
            let variable = |name: &str| pairs.iter().find(|pair| pair.0 == name).map(|pair| OsString::from(pair.1));
            assert_eq!(cache_folder(os, variable), expected.map(PathBuf::from), "{os} {variables:?}");
        }
    }

    #[test]
    fn libraries_are_told_from_their_neighbours() {
        let cases = [
            ("libonnxruntime.so.1.31.1", true),
            ("libonnxruntime.so", true),
            ("libonnxruntime.1.31.1.dylib", true),
            ("onnxruntime.dll", true),
            ("libonnxruntime_providers_shared.so", false),
            ("onnxruntime_pybind11_state.so", false),
            (".tmp-libonnxruntime.so.1.31.1", false),
        ];
        for (name, expected) in cases {
            assert_eq!(is_library(name), expected, "{name}");
        }
    }
}
