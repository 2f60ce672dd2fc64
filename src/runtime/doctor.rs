//! `doctor`: reports installed and missing libraries and devices, with advice. Fetches nothing.

use std::fmt::{self, Display};
use std::path::PathBuf;

use serde::Serialize;

use super::library::load;
use super::library::provision;
use super::library::search::{Found, Origin, Places};
use super::machine::{self, Machine};
use super::ort::capture;
use super::{Device, OrtEngine, TRACT_VERSION};

/// One examined library.
#[derive(Clone, Debug, Serialize)]
pub struct Candidate {
    /// Its place.
    pub origin: Origin,
    /// The file, or a name for the system's loader.
    #[serde(serialize_with = "crate::shown::path")]
    pub path: PathBuf,
    /// Its version, if it is usable.
    pub version: Option<String>,
    /// Why it is not usable.
    pub problem: Option<String>,
}

/// A device of the command line.
#[derive(Clone, Debug, Serialize)]
pub struct DeviceState {
    /// Its name on the command line.
    pub device: String,
    /// Why the chosen library cannot use it, and what is missing.
    pub problem: Option<String>,
}

/// The libraries, devices and tools that determine the engine.
#[derive(Clone, Debug, Serialize)]
pub struct Doctor {
    /// The version of this program.
    pub version: &'static str,
    /// Operating system and architecture.
    pub platform: String,
    /// Every examined ONNX Runtime library, in order.
    pub candidates: Vec<Candidate>,
    /// The library in use.
    pub used: Option<Found>,
    /// Its execution providers that this program supports.
    pub providers: Vec<String>,
    /// The devices of the library; empty without one.
    pub devices: Vec<DeviceState>,
    /// The version of tract that is built in.
    pub tract: &'static str,
    /// The folder for a fetched library.
    #[serde(serialize_with = "crate::shown::some_path")]
    pub cache: Option<PathBuf>,
    /// Version of Python, where it is installed.
    pub python: Option<String>,
    /// Version of pip, where it is installed.
    pub pip: Option<String>,
    /// The machine.
    pub machine: Machine,
    /// Advice on what is missing.
    pub advice: Vec<String>,
}

/// Returns the report for `places` and this machine. Loads the usable library.
pub fn examine(places: &Places) -> Doctor {
    let mut candidates = Vec::new();
    places.visit(|origin, path| {
        // What the search leaves out, since it takes a while.
        let whole = |version| provision::check_digest(path).map(|()| version);
        let (version, problem) = match load::examine(path).and_then(whole) {
            Ok(version) => (Some(version), None),
            Err(why) => (None, Some(why)),
        };
        candidates.push(Candidate { origin, path: path.to_owned(), version, problem });
        false
    });
    let (used, mut advice) = match places.search() {
        Ok(used) => (used, Vec::new()),
        Err(why) => (None, vec![why.to_string()]),
    };
    let damaged = used.as_ref().and_then(|used| problem_of(&candidates, used));
    let used = used.filter(|_| damaged.is_none());
    advice.extend(damaged);
    let providers = match used.as_ref().map(|used| load::providers(&used.path)) {
        Some(Ok(providers)) => providers,
        Some(Err(why)) => {
            advice.push(why.to_string());
            Vec::new()
        }
        None => Vec::new(),
    };
    let devices = used.as_ref().map_or_else(Vec::new, devices);
    let first_line = |arguments: &[&str]| {
        let program = provision::python_program()?;
        machine::output(program, arguments)?.into_iter().next()
    };
    let mut doctor = Doctor {
        version: env!("CARGO_PKG_VERSION"),
        platform: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        candidates,
        used,
        providers,
        devices,
        tract: TRACT_VERSION,
        cache: places.cache.clone(),
        python: first_line(&["--version"]),
        pip: first_line(&["-m", "pip", "--version"]),
        machine: Machine::examine(),
        advice,
    };
    let more = advise(&doctor);
    doctor.advice.extend(more);
    doctor
}

/// Returns the problem of the library that every command would use.
fn problem_of(candidates: &[Candidate], used: &Found) -> Option<String> {
    let found = candidates.iter().find(|candidate| candidate.path == used.path)?;
    found.problem.as_ref().map(|problem| format!("ONNX Runtime library {}: {problem}", used.path.display()))
}

/// Returns the devices of `library`. A provider in it may lack its own libraries, or a GPU.
fn devices(library: &Found) -> Vec<DeviceState> {
    let state = |device: Device| {
        let problem = OrtEngine::open(&library.path, device).err().map(|why| why.to_string());
        DeviceState { device: device.to_string(), problem }
    };
    [Device::Cpu, Device::Cuda(0), Device::TensorRt(0)].map(state).to_vec()
}

/// A library that the user named and that cannot be used is advice already; nothing is fetched in its place.
fn advise(doctor: &Doctor) -> Vec<String> {
    let mut advice = Vec::new();
    let version = provision::VERSION;
    if doctor.used.is_none() && doctor.advice.is_empty() {
        advice.push(match (&doctor.pip, &doctor.cache) {
            (Some(_), Some(cache)) if provision::has_wheel() => format!(
                "ONNX Runtime is missing; the first command that needs it fetches version {version} into {} through pip",
                cache.display()
            ),
            (Some(_), None) => "ONNX Runtime is missing and there is no cache folder; set DFQ_ONNX_CACHE".to_owned(),
            (None, _) => format!(
                "ONNX Runtime and pip are missing; install pip, or put a libonnxruntime of version {version} beside \
                 the executable or name it with --ort-lib; until then tract does the work"
            ),
            _ => format!(
                "ONNX Runtime is missing and there is no wheel of version {version} for this platform; name a library \
                 of your own with --ort-lib; until then tract does the work"
            ),
        });
    }
    let has_cuda = doctor.providers.iter().any(|name| name.starts_with("CUDA"));
    if !doctor.machine.gpus.is_empty() && !has_cuda {
        advice.push(format!(
            "there is a GPU, but no library that can use it; install the Python package onnxruntime-gpu=={version} \
             with CUDA 13 and cuDNN 9 and point --ort-lib at its libonnxruntime"
        ));
    }
    let works = |name: &str| doctor.devices.iter().any(|d| d.device.starts_with(name) && d.problem.is_none());
    if let Some(why) = doctor.used.as_ref().and_then(|used| capture::too_old(&used.version)).filter(|_| works("cuda")) {
        advice.push(format!("training on CUDA runs without CUDA graphs: {why}"));
    }
    if works("tensorrt") && doctor.cache.is_none() {
        advice.push(
            "there is no cache folder, so TensorRT rebuilds its engines in every run; set DFQ_ONNX_CACHE".to_owned(),
        );
    }
    if doctor.machine.missing_features.contains(&"AVX2") {
        advice.push("the processor has no AVX2; training and int8 inference are slow here".to_owned());
    } else if doctor.machine.missing_features.contains(&"VNNI") {
        advice.push(
            "the processor has no VNNI; 8-bit products can saturate in ONNX Runtime, so quantized models may answer \
             differently here than on newer machines"
                .to_owned(),
        );
    }
    advice
}

impl Display for Doctor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_none = |items: &[String]| if items.is_empty() { "none".to_owned() } else { items.join(", ") };
        writeln!(f, "dfq-onnx {} on {}", self.version, self.platform)?;
        match &self.used {
            Some(used) => {
                writeln!(f, "ONNX Runtime {} ({}): {}", used.version, used.origin, used.path.display())?;
                writeln!(f, "  execution providers: {}", or_none(&self.providers))?;
            }
            None => writeln!(f, "ONNX Runtime: none")?,
        }
        for DeviceState { device, problem } in &self.devices {
            match problem {
                Some(problem) => writeln!(f, "  {problem}")?,
                None => writeln!(f, "  device {device} can be used")?,
            }
        }
        writeln!(f, "  looked at:")?;
        for candidate in &self.candidates {
            let verdict = match (&candidate.version, &candidate.problem) {
                (Some(version), _) => version.as_str(),
                (None, Some(problem)) => problem.as_str(),
                (None, None) => "unknown",
            };
            writeln!(f, "    {} ({}): {verdict}", candidate.path.display(), candidate.origin)?;
        }
        writeln!(f, "tract {} (built in)", self.tract)?;
        let machine = &self.machine;
        writeln!(f, "processor: {}, {} cores", machine.processor.as_deref().unwrap_or("unknown"), machine.cores)?;
        writeln!(f, "  has {}", or_none(&machine.features.iter().map(ToString::to_string).collect::<Vec<_>>()))?;
        if !machine.missing_features.is_empty() {
            writeln!(f, "  lacks {}", machine.missing_features.join(", "))?;
        }
        match machine.memory_bytes {
            Some(bytes) => writeln!(f, "memory: {} MiB", bytes >> 20)?,
            None => writeln!(f, "memory: unknown")?,
        }
        writeln!(f, "GPUs: {}", or_none(&machine.gpus))?;
        writeln!(f, "Python: {}", self.python.as_deref().unwrap_or("none"))?;
        writeln!(f, "pip: {}", self.pip.as_deref().unwrap_or("none"))?;
        writeln!(f, "cache: {}", self.cache.as_ref().map_or("none".to_owned(), |path| path.display().to_string()))?;
        for advice in &self.advice {
            writeln!(f, "advice: {advice}")?;
        }
        Ok(())
    }
}
