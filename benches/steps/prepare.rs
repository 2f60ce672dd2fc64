//! A model made a training step of the quantized student or of a generator, as the folder that engines and Python read.

#[allow(dead_code)]
#[path = "../../tests/it/support/quantized.rs"]
pub mod quantized;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

use dfq_onnx::expr::STANDARD;
use dfq_onnx::ir::{Graph, Tensor};
use dfq_onnx::onnx::{self, INLINE_LIMIT};
use dfq_onnx::plan::Policy;
use dfq_onnx::runtime::{Engine, EngineRequest, Engines, Places, SessionOptions, engines};
use dfq_onnx::train::{About, Checkpoint, Distillation, Identity, Student, TrainingStep, peak_bytes};
use serde_json::{Map, Value, json};

use quantized::{Quantized, prepared, quantized_from};

use crate::process::FILES;
use crate::{Result, generator};

/// Batches that come again and again.
pub const BATCHES: u64 = 4;
/// Samples of a step where the user gives none: of small inputs, and of others.
const BATCH: [usize; 2] = [32, 8];
/// The most elements of a small input.
const SMALL: usize = 3 << 12;

static ENGINES: OnceLock<Engines> = OnceLock::new();

/// Returns the engine that prepares: ONNX Runtime, or tract where it is not to be had.
pub fn ort() -> &'static dyn Engine {
    let open = || {
        let request = EngineRequest { threads: Some(1), ..EngineRequest::default() };
        engines(&request, &Places::of_this_process(None)).unwrap_or_else(|error| panic!("{error}"))
    };
    ENGINES.get_or_init(open).main()
}

/// What is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// The quantized network.
    Student,
    /// A generator of images for the network, and its latents.
    Generator,
}

/// How a model becomes a step.
pub struct Settings {
    /// What is trained.
    pub kind: Kind,
    /// Bits of weights and activations.
    pub precision: (u32, u32),
    /// Samples of a step where the model does not fix them.
    pub batch: Option<usize>,
    /// Steps that there are rates for.
    pub steps: u64,
    /// Learning rates of a student's weights and biases, and of the logarithms of its quantizers' steps.
    pub rates: [f32; 2],
}

/// A step and what it is fed.
pub struct Prepared {
    pub step: TrainingStep,
    /// The same as it is written for ONNX Runtime on the CPU.
    pub cpu: TrainingStep,
    /// The file that Python reads, and the graph in it: a student's loss, or the network that images are made for.
    pub read: (&'static str, Graph),
    pub batch: usize,
    /// By name and number of the batch.
    pub batches: BTreeMap<String, Tensor>,
    /// The learning rate of each vector.
    pub rates: [(&'static str, f32); 2],
    /// What else Python has to know.
    pub more: Value,
}

/// Returns a training step of a model.
pub fn prepare(model: &Path, settings: &Settings) -> Result<Prepared> {
    match settings.kind {
        Kind::Student => student(model, settings),
        Kind::Generator => generator::prepare(model, settings),
    }
}

/// Returns the training step of a model quantized by `fast`.
fn student(model: &Path, settings: &Settings) -> Result<Prepared> {
    let (weights, activations) = settings.precision;
    let policy = Policy { weight_bits: weights, activation_bits: activations, ..Policy::default() };
    let prepared = prepared(&onnx::load(model)?, &policy)?;
    let Quantized { float, plan, solution, .. } = quantized_from(&prepared, &policy, "fast", 1)?;
    let mut student = Student::new(&float, &plan, &solution)?;
    // One rate for each vector, as PyTorch's groups of parameters have.
    student.weights.set_lr_scale(settings.rates[0]);
    student.scales.set_lr_scale(settings.rates[1]);
    let distillation = Distillation::new(&prepared.float, student)?;
    let graph = distillation.teacher();
    let batch = graph.fixed_batch().or(settings.batch).unwrap_or_else(|| usual_batch(graph));
    let (step, loss) = (distillation.step(batch, &STANDARD)?, distillation.loss_graph(batch)?);
    let cpu = distillation.step(batch, &ort().lowering())?;
    let mut batches = BTreeMap::new();
    for number in 0..BATCHES {
        let inputs = prepared.input.synthetic(graph, batch, number, 1)?;
        let names = graph.fed_inputs().into_iter().map(|id| format!("{}.{number}", graph.name_of(id)));
        batches.extend(names.zip(inputs));
    }
    batches.extend((0..settings.steps).map(|number| (format!("rates.{number}"), step.rates(&[1.0], number))));
    let rates = [("weights", settings.rates[0]), ("scales", settings.rates[1])];
    Ok(Prepared { step, cpu, read: ("loss.onnx", loss), batch, batches, rates, more: Value::Null })
}

pub fn usual_batch(graph: &Graph) -> usize {
    let largest = graph.fed_inputs().into_iter().map(|id| graph.value(id).sample_len()).max().unwrap_or(0);
    BATCH[usize::from(largest > SMALL)]
}

impl Prepared {
    /// Writes graphs, state and batches.
    pub fn write(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder)?;
        onnx::save(&self.read.1, &folder.join(self.read.0), INLINE_LIMIT)?;
        for (file, step) in FILES.into_iter().zip([&self.step, &self.cpu]) {
            onnx::save(&step.graph, &folder.join(file), INLINE_LIMIT)?;
        }
        let empty = String::new;
        let run = Identity { stage: "steps".to_owned(), seed: 0, model: empty(), settings: empty() };
        let write = |name: &str, tensors: BTreeMap<String, Tensor>| {
            Checkpoint { tensors, about: About::new(run.clone(), 0) }.write(&folder.join(name))
        };
        write("state.safetensors", self.step.state.iter().cloned().collect())?;
        write("batches.safetensors", self.batches.clone())?;
        Ok(())
    }

    /// Returns whether another preparation came to the same bytes.
    pub fn is_same(&self, other: &Self) -> Result<bool> {
        let same_graphs = onnx::encode(&self.step.graph)? == onnx::encode(&other.step.graph)?
            && onnx::encode(&self.read.1)? == onnx::encode(&other.read.1)?;
        Ok(same_graphs && self.step.state == other.step.state && self.batches == other.batches)
    }

    /// Returns how many numbers are trained, by vector.
    pub fn trained(&self) -> [usize; 2] {
        self.rates.map(|(name, _)| {
            let entry = self.step.state.iter().find(|entry| entry.0 == name);
            entry.map_or(0, |(_, start)| start.shape().iter().product())
        })
    }

    /// Returns what the tensors of a step take of memory by estimate.
    pub fn estimate(&self) -> usize {
        peak_bytes(&self.step.graph)
    }

    /// Returns the nodes that ONNX Runtime makes of the step with default options; `None` without ONNX Runtime.
    pub fn optimised_nodes(&self, folder: &Path) -> Result<Option<usize>> {
        let engine = ort();
        if ENGINES.get().is_none_or(|engines| engines.ort.is_none()) {
            return Ok(None);
        }
        let path = folder.join("optimised.onnx");
        let options = SessionOptions { optimised_model: Some(path.clone()), ..SessionOptions::default() };
        engine.load(&self.step.graph, &options)?;
        Ok(Some(onnx::load(&path)?.nodes.len()))
    }

    /// Returns what Python wants to know of a run.
    pub fn about(&self, model: &str, results: &[(String, Vec<f32>, f64)]) -> Result<Value> {
        let optimiser = serde_json::to_value(self.step.optimisers.first())?;
        // The settings without the name of the rule.
        let settings = optimiser.as_object().and_then(|rule| rule.values().next()).cloned();
        let rates: Map<String, Value> = self.rates.iter().map(|&(name, rate)| (name.to_owned(), json!(rate))).collect();
        let losses: Map<String, Value> = results.iter().map(|(name, each, _)| (name.clone(), json!(each))).collect();
        let times: Map<String, Value> = results.iter().map(|(name, _, ms)| (name.clone(), json!(ms))).collect();
        Ok(json!({
            "model": model, "batch": self.batch, "optimiser": settings, "learning_rates": rates,
            "losses": losses, "milliseconds": times, "binary": std::env::current_exe()?, "generator": self.more,
        }))
    }
}
