//! Sessions of ONNX Runtime on the CPU, CUDA or TensorRT.

mod blocks;
pub(super) mod capture;
mod open_sizes;
mod operators;
mod providers;
mod steps;
mod unshare;
mod value;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use ort::environment::Environment;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::value::DynValue;

use super::device_failure::{cause, device_failure, lacking_kernel};
use super::kernels;
use super::library::load;
use super::machine::lacks_vnni;
use super::panics::caught;
use super::pieces::{in_pieces, piece_limits};
use super::room::refuse_oversized;
use super::step_layout::StepLayout;
use super::timed::timed;
use super::{Device, Engine, Optimisation, Session, SessionOptions, StepSession};
use crate::digest::sha256;
use crate::error::{Error, Result};
use crate::expr::{Builder, Lowering, STANDARD, ort_cpu};
use crate::ir::{DType, Graph, Tensor, ValueId};
use crate::onnx;
use capture::{Capture, CapturedSteps, host_input};
use open_sizes::with_open_sizes;
use providers::{Use, providers};
use steps::OrtSteps;
use unshare::unshared;
use value::{Initializer, from_value, to_value};

/// Initializers of this many bytes or more are passed by reference; smaller ones are part of the encoded model.
const HANDED_OVER: usize = 1 << 20;

/// ONNX Runtime, loaded from a library file.
#[derive(Clone, Debug)]
pub struct OrtEngine {
    environment: Environment,
    version: String,
    library: PathBuf,
    device: Device,
    threads: usize,
    /// The folder of TensorRT's caches.
    cache: Option<PathBuf>,
    /// Channels in a block of blocked tensors, computed on first use.
    block: Arc<OnceLock<Option<usize>>>,
}

impl OrtEngine {
    /// Returns the engine in the library file at `library`, on `device`.
    ///
    /// # Errors
    /// [`Error::Resources`] when the file is no usable library, another one is loaded already, or it cannot use the
    /// device.
    pub fn open(library: &Path, device: Device) -> Result<Self> {
        let environment = load::load(library)?;
        let version = load::examine(library).map_err(Error::Resources)?;
        let (library, block) = (library.to_owned(), Arc::default());
        let engine = Self { environment, version, library, device, threads: 1, cache: None, block };
        let builder = SessionBuilder::new(&engine.environment).map_err(|e| engine.failed("", &e))?;
        let registered = builder.with_execution_providers(providers(device, &Use::default()));
        registered.map_err(|e| missing_provider(device, &e))?;
        engine.probe().map_err(|e| missing_device(device, &e))?;
        Ok(engine)
    }

    /// Does not run anything: a missing GPU shows only when a session is created. TensorRT would build an engine for
    /// such a test, and uses the same device through CUDA.
    fn probe(&self) -> ort::Result<()> {
        let (Device::Cuda(index) | Device::TensorRt(index)) = self.device else { return Ok(()) };
        let builder = Builder::new("probe");
        let doubled = builder.input("x", DType::F32, &[1]) * 2.0;
        let graph = builder.finish(&[("y", doubled)]).map_err(|e| ort::Error::new(e.to_string()))?;
        let cuda = Self { device: Device::Cuda(index), ..self.clone() };
        cuda.session(&graph, &SessionOptions::default(), Purpose::Runs).map(|_| ())
    }

    /// Returns the engine with `threads` as the default of its sessions.
    pub fn with_threads(self, threads: usize) -> Self {
        Self { threads, ..self }
    }

    /// Returns the engine with a folder for TensorRT's caches.
    pub fn with_cache(self, cache: Option<PathBuf>) -> Self {
        Self { cache, ..self }
    }

    /// Returns the version of the library, such as `1.31.1`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Returns the file that the library was loaded from.
    pub fn library(&self) -> &Path {
        &self.library
    }

    /// Returns the device that sessions run on.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Returns the optimized graph that ONNX Runtime runs for `graph` under `options`; its fused and blocked operators
    /// have their own domains.
    ///
    /// # Errors
    /// [`Error::Runtime`] when it refuses the graph; those of writing and reading the file that it goes through.
    pub fn optimised(&self, graph: &Graph, options: &SessionOptions) -> Result<Graph> {
        let parent = std::env::temp_dir();
        let folder = tempfile::tempdir_in(&parent).map_err(Error::write(&parent))?;
        let path = folder.path().join("optimised.onnx");
        let options = SessionOptions { optimised_model: Some(path.clone()), piece_bytes: None, ..options.clone() };
        self.load(graph, &options)?;
        onnx::load(&path)
    }

    fn failed(&self, mode: &str, message: &dyn std::fmt::Display) -> Error {
        let of_the_device = device_failure(self.device, &message.to_string());
        of_the_device.unwrap_or_else(|| Error::runtime(format!("{}{mode}", self.name()), message))
    }

    fn builder(&self, options: &SessionOptions, how: &Use) -> ort::Result<SessionBuilder> {
        let mut builder = SessionBuilder::new(&self.environment)?
            .with_intra_threads(options.threads.unwrap_or(self.threads))?
            .with_intra_op_spinning(false)?
            .with_prepacking(options.prepacking)?
            // Without it MatMulNBits quantizes activations that the file keeps in float.
            .with_config_entry("session.qdq_matmulnbits_accuracy_level", "1")?
            .with_execution_providers(providers(self.device, how))?;
        if how.is_precise {
            builder = builder.with_config_entry("session.x64quantprecision", "1")?;
        }
        if options.optimisation == Optimisation::None {
            builder = builder.with_optimization_level(GraphOptimizationLevel::Disable)?;
        }
        if let Some(path) = &options.optimised_model {
            builder = builder.with_optimized_model_path(path)?;
        }
        Ok(builder)
    }

    /// Without VNNI, integer kernels saturate sums of two products. Checks must not depend on the machine, and
    /// `verify::saturation` reports possible saturation on every machine, so this requests kernels that do not
    /// saturate. If the library refuses shared weights then, each layer gets a copy; if it has no such kernels, its
    /// usual ones run.
    pub(super) fn session(&self, graph: &Graph, options: &SessionOptions, purpose: Purpose) -> ort::Result<OrtSession> {
        let is_precise = self.device == Device::Cpu && lacks_vnni();
        let graph = &*with_open_sizes(graph);
        match self.session_of(graph, options, purpose, is_precise) {
            Err(_) if is_precise => self
                .session_of(&unshared(graph), options, purpose, true)
                .or_else(|_| self.session_of(graph, options, purpose, false)),
            made => made,
        }
    }

    fn session_of(
        &self,
        graph: &Graph,
        options: &SessionOptions,
        purpose: Purpose,
        is_precise: bool,
    ) -> ort::Result<OrtSession> {
        // A written model refers to weights that were handed over, which no file holds.
        let min_bytes = if options.optimised_model.is_some() { usize::MAX } else { HANDED_OVER };
        let (model, left_out) = onnx::encode_split(graph, min_bytes);
        let left_out: Vec<(ValueId, &Tensor)> = left_out
            .into_iter()
            .map(|id| (id, graph.constant_of(id).expect("only initializers are left out")))
            .collect();
        let steps = matches!(purpose, Purpose::Steps { .. });
        let weights = left_out.iter().map(|(_, tensor)| tensor.bytes().as_ref());
        let [timing_cache, engine_cache] = self.caches(steps, std::iter::once(model.as_slice()).chain(weights));
        let how = Use {
            is_precise,
            often: steps || options.prepacking,
            tf32: steps && options.tf32,
            cuda_graphs: purpose == Purpose::Steps { captured: true },
            timing_cache: timing_cache.as_deref(),
            engine_cache: engine_cache.as_deref(),
        };
        let mut builder = self.builder(options, &how)?;
        if self.device == Device::Cpu && graph.nodes.iter().any(|node| node.domain == kernels::DOMAIN) {
            builder = builder.with_operators(operators::operators()?)?;
        }
        let mut initializers = Vec::with_capacity(left_out.len());
        for (id, tensor) in left_out {
            let initializer = Initializer::new(tensor)?;
            initializer.hand_over(graph.name_of(id), &mut builder)?;
            initializers.push(initializer);
        }
        // The `ort` crate panics at sizes that ONNX Runtime's own arithmetic made negative.
        let session = guarded(|| builder.commit_from_memory(&model))?;
        let names = |ids: &[ValueId]| ids.iter().map(|&id| graph.name_of(id).to_owned()).collect();
        Ok(OrtSession {
            session,
            _initializers: initializers,
            inputs: names(&graph.fed_inputs()),
            outputs: names(&graph.outputs),
            engine: self.clone(),
            mode: mode(options.optimisation),
        })
    }

    /// Returns TensorRT's existing folders for timings and for engines of the graph `model`. Engines are cached only
    /// for steps: checks run each graph once.
    fn caches<'b>(&self, steps: bool, model: impl Iterator<Item = &'b [u8]>) -> [Option<PathBuf>; 2] {
        let (Device::TensorRt(_), Some(cache)) = (self.device, &self.cache) else { return [None, None] };
        let timings = cache.join("tensorrt");
        let engines = steps.then(|| timings.join(sha256(model)));
        let made = |folder: &PathBuf| {
            let made = std::fs::create_dir_all(folder);
            made.inspect_err(|e| tracing::debug!("cannot create {}: {e}", folder.display())).is_ok()
        };
        [Some(timings).filter(made), engines.filter(made)]
    }

    fn steps(&self, graphs: &[&Graph], state: &[(String, Tensor)], options: &SessionOptions) -> Result<OrtSteps> {
        let layout = StepLayout::new(graphs, state)?;
        let steps = || {
            let session = |graph: &&Graph| self.session(graph, options, Purpose::Steps { captured: false });
            let sessions = graphs.iter().map(session).collect::<ort::Result<_>>()?;
            OrtSteps::new(sessions, layout, state, None)
        };
        steps().map_err(|e| self.failed(mode(options.optimisation), &e))
    }

    /// Returns steps of one graph that are recorded as CUDA graphs.
    fn captured(&self, graph: &Graph, state: &[(String, Tensor)], options: &SessionOptions) -> Result<CapturedSteps> {
        if let Some(why) = capture::too_old(&self.version) {
            return Err(Error::runtime(self.name(), why));
        }
        let layout = StepLayout::new(&[graph], state)?;
        let steps = || {
            let session = self.session(graph, options, Purpose::Steps { captured: true })?;
            if let Some(name) = host_input(&session.session)? {
                return Err(ort::Error::new(format!("input \"{name}\" is read on the host")));
            }
            OrtSteps::new(vec![session], layout, state, Some(Capture::new()?))
        };
        let steps = steps().map_err(|e| self.failed(mode(options.optimisation), &e))?;
        let (engine, graph, options) = (self.clone(), graph.clone(), options.clone());
        let regular = move |state: &[(String, Tensor)]| engine.steps(&[&graph], state, &options);
        Ok(CapturedSteps::new(steps, Box::new(regular)))
    }
}

/// The purpose of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Independent runs.
    Runs,
    /// Thousands of steps of fixed shapes, recorded as CUDA graphs or not.
    Steps { captured: bool },
}

impl Engine for OrtEngine {
    fn name(&self) -> String {
        format!("ONNX Runtime {}", self.version)
    }

    fn load(&self, graph: &Graph, options: &SessionOptions) -> Result<Box<dyn Session>> {
        // What optimisation computes is allocated when a graph is loaded; without it nothing is, and a graph that is
        // refused is refused for that.
        let is_optimised = options.optimisation == Optimisation::Default;
        if is_optimised {
            refuse_oversized(graph)?;
        }
        if let Some(limits) = piece_limits(graph, options, None) {
            return Ok(in_pieces(self.clone(), graph, options, limits));
        }
        let session = self.session(graph, options, Purpose::Runs);
        let session = session.map_err(|e| self.failed(mode(options.optimisation), &e))?;
        if !is_optimised {
            refuse_oversized(graph)?;
        }
        Ok(Box::new(session))
    }

    fn lowering(&self) -> Lowering {
        match self.device {
            Device::Cpu => self.block.get_or_init(|| blocks::block(self)).map_or(STANDARD, ort_cpu),
            Device::Cuda(_) | Device::TensorRt(_) => STANDARD,
        }
    }

    fn load_steps(
        &self,
        graphs: &[&Graph],
        state: &[(String, Tensor)],
        options: &SessionOptions,
    ) -> Result<Box<dyn StepSession>> {
        let regular = || self.steps(graphs, state, options).map_err(lacking_kernel);
        // Which buffers a step reads depends on the turns before it where there are several graphs; recordings need the
        // same ones each time.
        let [graph] = graphs else { return Ok(Box::new(regular()?)) };
        if !capture::captures(self.device, options) {
            return Ok(Box::new(regular()?));
        }
        match self.captured(graph, state, options) {
            Ok(steps) => Ok(Box::new(steps)),
            Err(why @ Error::Shape { .. }) => Err(why),
            Err(why) => {
                // A graph that is refused for another reason is refused here too.
                let steps = regular()?;
                capture::warn(&why);
                Ok(Box::new(steps))
            }
        }
    }
}

/// Runs `work`; a panic becomes an error.
fn guarded<T>(work: impl FnOnce() -> ort::Result<T>) -> ort::Result<T> {
    let result = timed("ONNX Runtime", || caught(work));
    result.unwrap_or_else(|panic| Err(ort::Error::new(format!("stopped with a panic: {panic}"))))
}

fn mode(optimisation: Optimisation) -> &'static str {
    match optimisation {
        Optimisation::Default => "",
        Optimisation::None => " without optimisation",
    }
}

fn missing_provider(device: Device, message: &dyn std::fmt::Display) -> Error {
    let needs = match device {
        Device::TensorRt(_) => "CUDA 13, cuDNN 9 and TensorRT 10",
        _ => "CUDA 13 and cuDNN 9",
    };
    Error::Resources(format!(
        "device {device} cannot be used: {}; install the Python package onnxruntime-gpu==1.31.1, point --ort-lib at \
         the libonnxruntime in it, and have the libraries of {needs} on the loader's path; or use --device cpu",
        cause(&message.to_string())
    ))
}

fn missing_device(device: Device, message: &dyn std::fmt::Display) -> Error {
    Error::Resources(format!(
        "device {device} cannot be used: {}; nvidia-smi numbers the GPUs from 0, dfq-onnx doctor tells what is missing; \
         or use --device cpu",
        cause(&message.to_string())
    ))
}

pub(super) struct OrtSession {
    /// Before the initializers, since fields are dropped in order and the session reads them until then.
    pub session: ort::session::Session,
    _initializers: Vec<Initializer>,
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
    engine: OrtEngine,
    mode: &'static str,
}

impl OrtSession {
    pub fn device(&self) -> Device {
        self.engine.device
    }

    pub fn failed(&self, message: &dyn std::fmt::Display) -> Error {
        self.engine.failed(self.mode, message)
    }

    fn run_values(&mut self, inputs: &[Tensor]) -> ort::Result<Vec<Tensor>> {
        if inputs.len() != self.inputs.len() {
            let (expected, found) = (self.inputs.len(), inputs.len());
            return Err(ort::Error::new(format!("expected {expected} inputs, found {found}")));
        }
        let names = self.inputs.iter().map(String::as_str);
        let values = names.zip(inputs).map(|(name, tensor)| Ok((name, to_value(tensor)?)));
        let values = values.collect::<ort::Result<Vec<_>>>()?;
        let found = guarded(|| self.session.run(values))?;
        // A graph that is looked into has thousands of outputs, and finding one by its name goes through them all.
        let found: HashMap<&str, DynValue> = found.into_iter().collect();
        let output = |name: &String| {
            let value = found.get(name.as_str());
            from_value(value.ok_or_else(|| ort::Error::new(format!("gave no output \"{name}\"")))?)
        };
        self.outputs.iter().map(output).collect()
    }
}

impl Session for OrtSession {
    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        self.run_values(inputs).map_err(|e| self.failed(&e))
    }
}
