//! The choice of engines for a command.

use std::path::PathBuf;
use std::str::FromStr;

use super::{Device, Engine, Found, OrtEngine, Places, TractEngine, locate, machine};
use crate::error::{Error, Result};

/// The engine as typed on the command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineChoice {
    /// ONNX Runtime if available, with tract as the second runtime of checks; else tract alone, with a warning.
    #[default]
    Auto,
    /// ONNX Runtime alone, or an error.
    Ort,
    /// tract alone.
    Tract,
}

impl FromStr for EngineChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Self::Auto),
            "ort" | "onnxruntime" => Ok(Self::Ort),
            "tract" => Ok(Self::Tract),
            _ => Err(Error::Usage(format!("engine \"{text}\": expected auto, ort or tract"))),
        }
    }
}

impl std::fmt::Display for EngineChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Ort => "ort",
            Self::Tract => "tract",
        })
    }
}

/// The user's request.
#[derive(Clone, Debug, Default)]
pub struct EngineRequest {
    /// `--engine`.
    pub choice: EngineChoice,
    /// `--device`.
    pub device: Device,
    /// `--ort-lib`.
    pub ort_lib: Option<PathBuf>,
    /// `--offline`.
    pub offline: bool,
    /// `--threads`; by default all cores.
    pub threads: Option<usize>,
}

/// The engines that a command may use.
#[derive(Debug)]
pub struct Engines {
    /// ONNX Runtime, if used.
    pub ort: Option<OrtEngine>,
    /// tract, always available.
    pub tract: TractEngine,
    /// Whether checks run in tract.
    pub checks_in_tract: bool,
    /// The place of ONNX Runtime.
    pub library: Option<Found>,
    /// Threads of one run.
    pub threads: usize,
    /// Why ONNX Runtime is unavailable although requested by default.
    pub warning: Option<String>,
}

impl Engines {
    /// Returns name and version of every used engine.
    pub fn names(&self) -> Vec<String> {
        let tract = self.checks_in_tract.then(|| self.tract.name());
        self.ort.iter().map(Engine::name).chain(tract).collect()
    }

    /// Returns the device of the main engine.
    pub fn device(&self) -> Device {
        self.ort.as_ref().map_or(Device::Cpu, OrtEngine::device)
    }

    /// Returns the main engine: ONNX Runtime if used, else tract.
    pub fn main(&self) -> &dyn Engine {
        match &self.ort {
            Some(ort) => ort,
            None => &self.tract,
        }
    }
}

/// Returns the engines for `request`, looking for ONNX Runtime in `places` (see [`Places::of_this_process`]).
///
/// # Errors
/// [`Error::Usage`] for tract on a GPU; [`Error::Resources`] when a requested ONNX Runtime or device is not available,
/// or the library that the user named is unusable.
pub fn engines(request: &EngineRequest, places: &Places) -> Result<Engines> {
    let threads = request.threads.unwrap_or_else(machine::cores).max(1);
    let on_tract = |warning| {
        let (tract, checks_in_tract) = (TractEngine, true);
        Engines { ort: None, tract, checks_in_tract, library: None, threads, warning }
    };
    if request.choice == EngineChoice::Tract {
        if request.device != Device::Cpu {
            return Err(Error::Usage(format!(
                "tract runs on the CPU; drop --engine tract or --device {}",
                request.device
            )));
        }
        return Ok(on_tract(None));
    }
    let has_to_be_ort = request.choice == EngineChoice::Ort || request.device != Device::Cpu || places.names_a_file();
    let opened = locate(places, request.offline)
        .and_then(|found| Ok((OrtEngine::open(&found.path, request.device)?, found)))
        .map(|(ort, found)| (ort.with_threads(threads).with_cache(places.cache.clone()), found));
    match opened {
        Ok((ort, found)) => {
            let (tract, checks_in_tract) = (TractEngine, request.choice != EngineChoice::Ort);
            Ok(Engines { ort: Some(ort), tract, checks_in_tract, library: Some(found), threads, warning: None })
        }
        Err(why) if has_to_be_ort => Err(why),
        Err(why) => Ok(on_tract(Some(format!(
            "continuing with tract alone, which is slower, and no second runtime checks the result: {why}"
        )))),
    }
}
