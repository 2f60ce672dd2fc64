//! The whole of `quantize`, stage by stage.

use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::data::{Dataset, Preprocess, evaluate};
use crate::emit::{PACKED_OPSET, PER_CHANNEL_OPSET, emit};
use crate::error::{Error, Result};
use crate::ir::Graph;
use crate::plan::{Plan, Policy, plan, total_macs};
use crate::recipes::{Recipe, Solution, Teacher};
use crate::report::{Bytes, Comparison, LayerCost, Range, Report, SCHEMA_VERSION, Warning};
use crate::runtime::{Engine, Engines};
use crate::stats::{InputSource, InputStatistics, guess_input, read_batch_norms};
use crate::verify::{self, Verification, VerifyOptions, verify};
use crate::{onnx, passes, shape};

/// Everything that a run needs to know.
pub struct Config {
    /// The float model.
    pub model: PathBuf,
    /// Where the quantized model goes; none for a dry run.
    pub output: Option<PathBuf>,
    /// How grids and integers are found.
    pub recipe: &'static Recipe,
    /// What goes where.
    pub policy: Policy,
    /// Shapes that the user gave for inputs.
    pub input_shapes: Vec<(String, Vec<usize>)>,
    /// The network's input, where the user described it.
    pub input: Option<InputStatistics>,
    /// Everything random follows from it.
    pub seed: u64,
    /// Samples of the checks; none for as many as the model's work allows ([`verify::limits::default_samples`]).
    pub samples: Option<usize>,
    /// Labelled images to count top-1 on.
    pub evaluation: Option<(PathBuf, Preprocess)>,
    /// Smallest top-1 agreement with the float model, 0 to 1.
    pub min_agreement: Option<f64>,
    /// Smallest signal-to-noise ratio of any output against the float model, in dB.
    pub min_sqnr: Option<f64>,
    /// Whether a file that fails a hard check is kept, under another name.
    pub keep_failed: bool,
    /// Whether weights go to a file of their own whatever their size.
    pub external_data: bool,
}

/// Runs the pipeline; `progress` hears the name of each stage as it begins.
///
/// The report says what was checked; whether the checks hold is in [`Report::verification`]. A model that fails a hard
/// check is not written ([`Report::output`] is none).
///
/// # Errors
/// Models that cannot be read or quantized, engines that fail, files that cannot be written.
pub fn quantize(config: &Config, engines: &Engines, progress: &mut dyn FnMut(&str)) -> Result<Report> {
    let mut clock = Clock::new(progress);

    clock.stage("load");
    let (original, maps) = onnx::load_mapped(&config.model)?;
    let images = config.evaluation.as_ref().map(|(file, _)| Dataset::read_labelled(file)).transpose()?;

    clock.stage("normalise");
    let mut student = original.clone();
    passes::fix_shapes(&mut student, &config.input_shapes)?;
    let mut counts = passes::normalise(&mut student, engines.main())?;
    passes::refuse_unfit(&student)?;
    let norms = read_batch_norms(&student);
    let input = config.input.clone().unwrap_or_else(|| guess_input(&student, &norms));
    input.check_channels(&student)?;
    counts.extend(passes::fold(&mut student)?);
    onnx::upgrade(&mut student, needed_opset(&config.policy))?;

    clock.stage("plan");
    shape::infer(&mut student)?;
    let plan = plan(&student, &config.policy)?;

    clock.stage(config.recipe.name);
    let teacher = Teacher { norms: &norms, input: &input, engine: engines.main(), seed: config.seed };
    let solution = (config.recipe.run)(&mut student, &plan, &teacher)?;

    clock.stage("emit");
    let quantized = emit(&student, &plan, &solution)?;
    let mut report = Report {
        schema_version: SCHEMA_VERSION,
        tool: format!("{} {}", env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION")),
        model: config.model.clone(),
        output: None,
        recipe: config.recipe.name,
        seed: config.seed,
        device: engines.device().to_string(),
        engines: engines.names(),
        batch_norms: norms.len(),
        batch_norms_folded: norms.len() - read_batch_norms(&student).len(),
        passes: counts,
        ranges: ranges(&plan, &solution),
        layers: layer_costs(&student, &plan, &solution)?,
        bytes: Bytes { float: file_bytes(&config.model)?, quantized: 0 },
        warnings: warnings(&plan, &solution, &input, norms.is_empty(), (original.opset(), student.opset()), engines),
        input,
        plan,
        verification: None,
        evaluation: None,
        seconds: Vec::new(),
    };
    let samples = config.samples.unwrap_or_else(|| verify::limits::default_samples(total_macs(&student)));
    // What the float model took of memory is the checks' from here on.
    drop((student, solution));
    maps.iter().for_each(onnx::Mapped::release);
    let mut draft = None;
    if let Some(output) = &config.output {
        let written = Draft::write(&quantized, output, config.external_data)?;
        report.bytes.quantized = written.saved.bytes;
        clock.stage("verify");
        let found = check(&original, (&quantized, samples), &written.saved.model, &report.input, config, engines)?;
        let published =
            if found.passed() { Some(output.clone()) } else { config.keep_failed.then(|| failed_name(output)) };
        draft = published.map(|name| (written, name));
        report.verification = Some(found);
    }
    if let (Some((data, preprocess)), Some(images)) = (&config.evaluation, &images) {
        clock.stage("evaluate");
        report.evaluation = Some(compare(&original, &quantized, (data, images), preprocess, engines)?);
    }
    if let Some((draft, name)) = draft {
        report.output = Some(draft.publish(&name)?);
    }
    report.seconds = clock.finish();
    Ok(report)
}

/// Returns the engines as the checks want them.
pub fn checkers(engines: &Engines) -> verify::Engines<'_> {
    verify::Engines { ort: engines.ort.as_ref().map(|ort| ort as &dyn Engine), tract: Some(&engines.tract) }
}

fn needed_opset(policy: &Policy) -> i64 {
    let fewest = policy.layer_bits.iter().map(|l| l.1).chain([policy.weight_bits]).min().unwrap_or(8);
    if policy.target.packs_weights() && fewest <= 4 { PACKED_OPSET } else { PER_CHANNEL_OPSET }
}

fn check(
    original: &Graph,
    (quantized, samples): (&Graph, usize),
    shipped: &Path,
    input: &InputStatistics,
    config: &Config,
    engines: &Engines,
) -> Result<Verification> {
    let options = VerifyOptions {
        samples,
        seed: config.seed,
        shipped: Some(shipped.to_owned()),
        min_agreement: config.min_agreement,
        min_sqnr: config.min_sqnr,
        ..VerifyOptions::default()
    };
    let inputs = input.synthetic(quantized, samples, config.seed)?;
    let mut verification = verify(original, quantized, &checkers(engines), Some(&inputs), &options)?;
    verification.synthetic_inputs = true;
    Ok(verification)
}

fn compare(
    original: &Graph,
    quantized: &Graph,
    (data, images): (&Path, &Dataset),
    preprocess: &Preprocess,
    engines: &Engines,
) -> Result<Comparison> {
    const BATCH: usize = 50;
    let engine = engines.main();
    let float = evaluate(engine, original, images, preprocess, BATCH)?;
    let low = evaluate(engine, quantized, images, preprocess, BATCH)?;
    let agreeing = float.predictions.iter().zip(&low.predictions).filter(|(a, b)| a == b).count();
    Ok(Comparison {
        data: data.to_owned(),
        images: float.n,
        float_correct: float.correct,
        quantized_correct: low.correct,
        agreeing,
    })
}

fn ranges(plan: &Plan, solution: &Solution) -> Vec<Range> {
    let grids = plan.activations.iter().zip(&solution.activations).zip(&solution.sources);
    let range = |((activation, grid), &source): ((&crate::plan::Activation, &crate::quant::Grid), _)| {
        let (lo, hi) = grid.range(0);
        let tensor = activation.tensors.first().cloned().unwrap_or_default();
        Range { tensor, bits: activation.scheme.bits, lo, hi, source }
    };
    grids.map(range).collect()
}

fn layer_costs(student: &Graph, plan: &Plan, solution: &Solution) -> Result<Vec<LayerCost>> {
    let mut costs = Vec::with_capacity(plan.layers.len());
    for layer in &plan.layers {
        let node = student.find(&layer.output).and_then(|id| student.nodes.iter().find(|n| n.output(0) == Some(id)));
        let weight = layer.weight.map(|i| &solution.weights[i]);
        let float = layer.weight.and_then(|i| student.constant_of(student.find(&plan.weights[i].tensor)?));
        costs.push(LayerCost {
            name: layer.name.clone(),
            op_type: layer.op_type.clone(),
            weight_bits: weight.map(|w| w.grid.scheme.bits),
            input_bits: plan.activations[layer.input].scheme.bits,
            weight_bytes: weight.zip(float).map(|(w, f)| {
                let bits = if plan.target.packs_weights() { w.grid.scheme.packed_type().bits() } else { 8 };
                let bytes = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
                Bytes { float: bytes(f.bytes().len()), quantized: bytes((w.bytes.len() * bits).div_ceil(8)) }
            }),
            macs: node.and_then(|n| crate::plan::macs(student, n)),
            weight_sqnr: match weight.zip(float) {
                Some((weight, float)) => weight.sqnr(&float.to_f32()?),
                None => None,
            },
        });
    }
    Ok(costs)
}

fn warnings(
    plan: &Plan,
    solution: &Solution,
    input: &InputStatistics,
    no_statistics: bool,
    (from, to): (i64, i64),
    engines: &Engines,
) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if no_statistics {
        warnings.push(Warning::NoStatistics);
    }
    if input.source == InputSource::Assumed {
        warnings.push(Warning::InputAssumed { lo: input.lo, hi: input.hi });
    }
    if to > from {
        warnings.push(Warning::OpsetRaised { from, to });
    }
    let is_layer = |op: &str| matches!(op, "Conv" | "ConvTranspose" | "Gemm" | "MatMul");
    let stays: Vec<String> = plan
        .float
        .iter()
        .filter(|f| is_layer(&f.op_type) && f.reason != "graph outputs stay float")
        .map(|f| format!("{} ({}): {}", f.name, f.op_type, f.reason))
        .collect();
    if !stays.is_empty() {
        warnings.push(Warning::LayersStayFloat { layers: stays });
    }
    for (weight, channels) in &solution.enlarged {
        warnings.push(Warning::BiasGuard { weight: weight.clone(), channels: *channels });
    }
    for (i, weight) in plan.weights.iter().enumerate() {
        let same = |w: &&crate::plan::Weight| w.tensor == weight.tensor;
        let copies = plan.weights.iter().filter(same).count();
        if copies > 1 && plan.weights.iter().position(|w| w.tensor == weight.tensor) == Some(i) {
            warnings.push(Warning::DuplicatedWeight { weight: weight.tensor.clone(), copies });
        }
    }
    if plan.target.packs_weights() && plan.weights.iter().any(|w| w.scheme.bits <= 4) {
        warnings.push(Warning::PackedWeightsAreNotFaster);
    }
    let bits = plan.fewest_bits();
    if bits <= 4 {
        warnings.push(Warning::FewBits { bits });
    }
    if let Some(reason) = &engines.warning {
        warnings.push(Warning::SingleRuntime { reason: reason.clone() });
    }
    warnings
}

fn file_bytes(path: &Path) -> Result<u64> {
    onnx::stored_bytes(path)
}

fn failed_name(output: &Path) -> PathBuf {
    let stem = output.file_stem().unwrap_or_default().to_string_lossy();
    output.with_file_name(format!("{stem}.failed.onnx"))
}

/// A model written beside its destination, gone unless published.
struct Draft {
    folder: tempfile::TempDir,
    saved: onnx::Saved,
}

impl Draft {
    fn write(graph: &Graph, output: &Path, external: bool) -> Result<Self> {
        let parent = match output.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let name = output.file_name().ok_or_else(|| Error::Usage(format!("{} names no file", output.display())))?;
        let folder = tempfile::Builder::new().prefix(".dfq-onnx-").tempdir_in(parent).map_err(Error::write(parent))?;
        let limit = if external { 0 } else { onnx::INLINE_LIMIT };
        let saved = onnx::save(graph, &folder.path().join(name), limit)?;
        Ok(Self { folder, saved })
    }

    /// Moves the files to their destination: weights first, so that a model file never lacks them.
    fn publish(self, output: &Path) -> Result<PathBuf> {
        if let Some(data) = &self.saved.data {
            let name = data.file_name().unwrap_or_default();
            let to = output.with_file_name(name);
            std::fs::rename(data, &to).map_err(Error::write(&to))?;
        }
        std::fs::rename(&self.saved.model, output).map_err(Error::write(output))?;
        drop(self.folder);
        Ok(output.to_owned())
    }
}

/// Names and times stages.
struct Clock<'a> {
    progress: &'a mut dyn FnMut(&str),
    started: Instant,
    current: Option<&'static str>,
    seconds: Vec<(&'static str, f64)>,
}

impl<'a> Clock<'a> {
    fn new(progress: &'a mut dyn FnMut(&str)) -> Self {
        Self { progress, started: Instant::now(), current: None, seconds: Vec::new() }
    }

    fn stage(&mut self, name: &'static str) {
        self.close();
        self.current = Some(name);
        (self.progress)(name);
    }

    fn close(&mut self) {
        if let Some(name) = self.current.take() {
            self.seconds.push((name, self.started.elapsed().as_secs_f64()));
        }
        self.started = Instant::now();
    }

    fn finish(mut self) -> Vec<(&'static str, f64)> {
        self.close();
        self.seconds
    }
}
