//! The whole of `quantize`, stage by stage.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::audit::{audit, coverage_gate};
use crate::data::{Dataset, Preprocess, evaluate};
use crate::emit::emit;
use crate::error::Result;
use crate::ir::Graph;
use crate::onnx::Draft;
use crate::plan::{Policy, plan, total_macs};
use crate::recipes::{Recipe, Teacher};
use crate::report::{self, Bytes, Comparison, Ranking, Report, SCHEMA_VERSION, Warning};
use crate::runtime::{Engine, Engines, SessionOptions, machine::lacks_vnni};
use crate::sensitivity::{self, Labelled, Reference, Solved, choose_bits, rank};
use crate::stats::{
    BatchNorm, InputSource, InputStatistics, TensorStatistics, guess_input, place_statistics, read_batch_norms,
    read_statistics,
};
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
    /// The average of weight bits to stay within, where bits are to be chosen layer by layer.
    pub auto_bits: Option<sensitivity::Request>,
    /// Whether the report ranks layers by what quantizing them costs.
    pub sensitivity: bool,
    /// Shapes that the user gave for inputs.
    pub input_shapes: Vec<(String, Vec<usize>)>,
    /// The network's input, where the user described it.
    pub input: Option<InputStatistics>,
    /// A file of statistics beside the model (see [`crate::stats::read_statistics`]).
    pub statistics: Option<PathBuf>,
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
    /// Smallest share of the multiply-accumulates that the target computes in integers, 0 to 1.
    pub min_coverage: Option<f64>,
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
    let original = onnx::load(&config.model)?;
    let given = config.statistics.as_deref().map(read_statistics).transpose()?.unwrap_or_default();
    let images = config.evaluation.as_ref().map(|(file, _)| Dataset::read_labelled(file)).transpose()?;

    clock.stage("normalise");
    let prepared = prepare(&original, given, config, engines)?;

    let (mut policy, mut auto_bits) = (config.policy.clone(), None);
    if let Some(request) = &config.auto_bits {
        clock.stage("auto-bits");
        let solve = |policy: &Policy| solve(&prepared, policy, config, engines);
        let (chosen, with_them) = choose_bits(&policy, request, &solve, &float_answers(&prepared, config, engines)?)?;
        (policy, auto_bits) = (with_them, Some(chosen));
    }

    clock.stage(config.recipe.name);
    let solved = solve(&prepared, &policy, config, engines)?;

    clock.stage("emit");
    let quantized = emit(&solved.student, &solved.plan, &solved.solution)?;
    let samples = config.samples.unwrap_or_else(|| verify::limits::default_samples(total_macs(&solved.student)));

    let mut ranking = None;
    if config.sensitivity {
        clock.stage("sensitivity");
        ranking = Some(rank(&solved, &float_answers(&prepared, config, engines)?, None)?);
    }
    let mut report = describe(config, engines, (&original, prepared), (solved, &quantized))?;
    if let Some(chosen) = &mut auto_bits {
        chosen.stored = report::stored_bits(&report.layers);
    }
    (report.auto_bits, report.sensitivity) = (auto_bits, ranking);
    let (reference, unrunnable) = reference(&original, engines)?;
    report.warnings.extend(unrunnable);
    // What the float model took of memory is the checks' from here on.
    onnx::release_pages();

    let mut draft = None;
    if let Some(output) = &config.output {
        let written = Draft::write(&quantized, output, config.external_data)?;
        report.bytes.quantized = written.saved.bytes;
        clock.stage("verify");
        let mut found = check(&reference, (&quantized, samples), &written.saved.model, &report.input, config, engines)?;
        found.gates.extend(config.min_coverage.map(|limit| coverage_gate(&report.audit, limit)));
        let published =
            if found.passed() { Some(output.clone()) } else { config.keep_failed.then(|| failed_name(output)) };
        draft = published.map(|name| (written, name));
        report.warnings.extend(report::saturation_warnings(&report.plan, &found.saturation, lacks_vnni()));
        report.verification = Some(found);
    }
    if let (Some((data, preprocess)), Some(images)) = (&config.evaluation, &images) {
        clock.stage("evaluate");
        report.evaluation = Some(compare(&reference, &quantized, (data, images), preprocess, engines)?);
    }
    if let Some((draft, name)) = draft {
        report.output = Some(draft.publish(&name)?);
    }
    report.seconds = clock.finish();
    Ok(report)
}

/// Ranks the layers of the model by what quantizing them costs; writes nothing. `progress` hears the name of each stage.
///
/// # Errors
/// As [`quantize`].
pub fn rank_layers(config: &Config, engines: &Engines, progress: &mut dyn FnMut(&str)) -> Result<Ranking> {
    let mut clock = Clock::new(progress);

    clock.stage("load");
    let original = onnx::load(&config.model)?;
    let images = config.evaluation.as_ref().map(|(file, _)| Dataset::read_labelled(file)).transpose()?;

    let given = config.statistics.as_deref().map(read_statistics).transpose()?.unwrap_or_default();

    clock.stage("normalise");
    let prepared = prepare(&original, given, config, engines)?;

    clock.stage(config.recipe.name);
    let solved = solve(&prepared, &config.policy, config, engines)?;

    clock.stage("sensitivity");
    let labelled = config.evaluation.as_ref().zip(images.as_ref());
    let labelled = labelled.map(|((_, preprocess), data)| Labelled { data, preprocess });
    let sensitivity = rank(&solved, &float_answers(&prepared, config, engines)?, labelled)?;
    Ok(Ranking {
        schema_version: SCHEMA_VERSION,
        tool: report::tool(),
        model: config.model.clone(),
        recipe: config.recipe.name,
        seed: config.seed,
        engine: engines.main().name(),
        input: prepared.input,
        sensitivity,
        seconds: clock.finish(),
    })
}

/// The float student, and what the teacher's file said before normalisations were folded away.
struct Prepared {
    student: Graph,
    norms: Vec<BatchNorm>,
    /// How many normalisations the model holds, and how many tensors' statistics came in a file of their own.
    counts: [usize; 2],
    input: InputStatistics,
    passes: Vec<(&'static str, usize)>,
}

fn prepare(
    original: &Graph,
    given: BTreeMap<String, TensorStatistics>,
    config: &Config,
    engines: &Engines,
) -> Result<Prepared> {
    let mut student = original.clone();
    passes::fix_shapes(&mut student, &config.input_shapes)?;
    let mut passes = passes::normalise(&mut student, engines.main())?;
    passes::refuse_unfit(&student)?;
    let mut norms = read_batch_norms(&student);
    let mut guess = guess_input(&student, &norms);
    passes.extend(passes::fold(&mut student)?);
    raise_opset(&mut student, config.policy.target.choices().opset)?;
    let place = config.statistics.as_ref().map_or(String::new(), |path| path.display().to_string());
    let given = place_statistics(&student, &given, &place)?;
    if guess.source == InputSource::Assumed {
        guess = guess_input(&student, &given);
    }
    let input = config.input.clone().filter(|_| guess.source != InputSource::Bytes).unwrap_or(guess);
    input.check_channels(&student)?;
    let counts = [norms.len(), given.len()];
    norms.retain(|norm| given.iter().all(|g| g.output != norm.output));
    norms.extend(given);
    Ok(Prepared { student, norms, counts, input, passes })
}

/// Plans for `policy` and runs the recipe on a student of its own.
fn solve(prepared: &Prepared, policy: &Policy, config: &Config, engines: &Engines) -> Result<Solved> {
    let Prepared { student, norms, input, .. } = prepared;
    let mut student = student.clone();
    let plan = plan(&student, policy)?;
    raise_opset(&mut student, plan.opset())?;
    let teacher = Teacher { norms, input, engine: engines.main(), seed: config.seed, threads: engines.threads };
    let solution = (config.recipe.run)(&mut student, &plan, &teacher)?;
    Ok(Solved { student, plan, solution })
}

/// Returns what the float student makes of synthetic inputs.
fn float_answers<'a>(prepared: &Prepared, config: &Config, engines: &'a Engines) -> Result<Reference<'a>> {
    let Prepared { student, input, .. } = prepared;
    let samples = config.samples.unwrap_or_else(|| verify::limits::default_samples(total_macs(student)));
    Reference::new(engines.main(), student, &input.synthetic(student, samples, config.seed, engines.threads)?)
}

fn describe(
    config: &Config,
    engines: &Engines,
    (original, prepared): (&Graph, Prepared),
    (solved, quantized): (Solved, &Graph),
) -> Result<Report> {
    let Prepared { norms, counts: [batch_norms, given], input, passes, .. } = prepared;
    let Solved { student, plan, solution } = solved;
    let mut warnings = report::warnings(&plan, &solution, &input);
    if norms.is_empty() {
        warnings.insert(0, Warning::NoStatistics);
    }
    warnings.extend(report::float_copies(&student, &plan));
    warnings.extend(report::conversion(original));
    if student.opset() > original.opset() {
        warnings.push(Warning::OpsetRaised { from: original.opset(), to: student.opset() });
    }
    if let Some(reason) = &engines.warning {
        warnings.push(Warning::SingleRuntime { reason: reason.clone() });
    }
    Ok(Report {
        schema_version: SCHEMA_VERSION,
        tool: report::tool(),
        model: config.model.clone(),
        output: None,
        recipe: config.recipe.name,
        seed: config.seed,
        device: engines.device().to_string(),
        engines: engines.names(),
        batch_norms,
        statistics_given: given,
        batch_norms_folded: batch_norms - read_batch_norms(&student).len(),
        passes,
        ranges: report::ranges(&plan, &solution),
        layers: report::layer_costs(&student, &plan, &solution)?,
        container: report::container(&config.policy, &plan, &solution),
        steps: solution.steps.clone(),
        audit: report::with_plan(audit(quantized, plan.target)?, &plan),
        bytes: Bytes { float: onnx::stored_bytes(&config.model)?, quantized: 0 },
        warnings,
        input,
        plan,
        auto_bits: None,
        sensitivity: None,
        verification: None,
        evaluation: None,
        seconds: Vec::new(),
    })
}

/// Returns what the quantized model is compared with: the original, or its float32 form where the main engine lacks
/// kernels for the original's types.
fn reference<'a>(original: &'a Graph, engines: &Engines) -> Result<(Cow<'a, Graph>, Option<Warning>)> {
    if report::conversion(original).is_none() {
        return Ok((Cow::Borrowed(original), None));
    }
    let engine = engines.main();
    let Err(refused) = engine.load(original, &SessionOptions::default()) else {
        return Ok((Cow::Borrowed(original), None));
    };
    let mut converted = original.clone();
    passes::lift_constants(&mut converted)?;
    passes::convert_floats(&mut converted)?;
    let warning = Warning::OriginalNotRun { engine: engine.name(), reason: refused.to_string() };
    Ok((Cow::Owned(converted), Some(warning)))
}

/// Returns the engines as the checks want them.
pub fn checkers(engines: &Engines) -> verify::Engines<'_> {
    verify::Engines { ort: engines.ort.as_ref().map(|ort| ort as &dyn Engine), tract: Some(&engines.tract) }
}

fn raise_opset(student: &mut Graph, opset: i64) -> Result<()> {
    onnx::upgrade(student, opset)?;
    shape::infer(student)
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
        threads: engines.threads,
        shipped: Some(shipped.to_owned()),
        min_agreement: config.min_agreement,
        min_sqnr: config.min_sqnr,
        ..VerifyOptions::default()
    };
    let inputs = input.synthetic(quantized, samples, config.seed, engines.threads)?;
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

fn failed_name(output: &Path) -> PathBuf {
    let stem = output.file_stem().unwrap_or_default().to_string_lossy();
    output.with_file_name(format!("{stem}.failed.onnx"))
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
