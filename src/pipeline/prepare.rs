//! From the float model to the prepared float network, and from that to grids and integers.

use std::collections::BTreeMap;

use super::Config;
use super::check::checkers;
use super::handed_over::HandedOver;
use super::scale::{check_evaluation, of_pixels};
use super::sizes::{Fixed, at_fixed_sizes, fix_sizes, solved_at_fixed_sizes, with_inputs_of};
use crate::calibrate::CalibrationContext;
use crate::data::Dataset;
use crate::digest::Watched;
use crate::error::{Error, Result};
use crate::infer_by_running::infer_by_running;
use crate::ir::{Graph, Tensor};
use crate::lab::{Lab, Supply};
use crate::observe::{Observer, Silent};
use crate::passes::{Aside, DeclaredShapes, FrozenAxis};
use crate::plan::{Policy, total_macs};
use crate::recipes;
use crate::report::Warning;
use crate::runtime::{Engines, refuse_states};
use crate::sensitivity::Reference;
use crate::solution::Solved;
use crate::stats::{
    BatchNorm, InputSource, InputStatistics, KnownInput, TensorStatistics, guess_input, guessed, known_inputs,
    place_statistics, read_batch_norms, read_statistics,
};
use crate::synthesis::{Source, SyntheticImages, synthesise};
use crate::train::{Claim, HeldOut, Run, RunFolder, Settings, StageReport, share_of};
use crate::verify::limits::default_samples;
use crate::{onnx, passes, shape};

/// The contents of the files, before any computation.
pub(super) struct Loaded {
    /// The original float model, without operators that the engines here do not support.
    pub original: Graph,
    /// The operators that the engines here do not support.
    pub aside: Option<Aside>,
    /// Statistics from a separate file.
    statistics: BTreeMap<String, TensorStatistics>,
    /// Labeled images.
    pub images: Option<Dataset>,
    /// All that is read.
    pub watched: Watched,
    /// Keeps other runs out of the folder of checkpoints.
    _claim: Option<Claim>,
}

/// The prepared float network, and the statistics of its file before batch normalization was folded.
pub(super) struct Prepared {
    pub float: Graph,
    /// The float network with constants folded at the sizes that are fixed for planning, where any are.
    at_sizes: Option<Graph>,
    pub norms: Vec<BatchNorm>,
    /// The number of batch normalizations in the model.
    pub batch_norms: usize,
    /// The number of tensors with statistics from a separate file.
    pub given: usize,
    pub input: InputStatistics,
    /// The known statistics of each input.
    pub inputs: Vec<KnownInput>,
    /// The declared shapes of inputs and outputs in the file, where those of the float network are fixed.
    pub declared: Option<DeclaredShapes>,
    /// The model's fixed batch size, where that of the float network is free.
    pub batch: Option<usize>,
    /// Axes that are fixed although the file leaves them open.
    pub frozen: Vec<FrozenAxis>,
    pub passes: Vec<(&'static str, usize)>,
    /// Warnings about the files that were handed over.
    pub warnings: Vec<Warning>,
}

/// Returns the model and its files, after checking that the checkpoint folder is unused or resumed.
pub(super) fn load(config: &Config, engines: &Engines) -> Result<Loaded> {
    let is_dry = config.output.is_none();
    let claim = |folder: &RunFolder| match is_dry {
        true => folder.refuse_used().map(|()| None),
        false => folder.claim().map(Some),
    };
    let claim = config.training.folder.as_ref().map(claim).transpose()?.flatten();
    let watched = Watched::new(config.files());
    let mut original = onnx::load(&config.model)?;
    passes::set_inputs(&mut original, &config.set_inputs)?;
    let of_model = |error: Error| error.in_model(&config.model);
    passes::refuse_unloadable(&original, checkers(engines).ort).map_err(of_model)?;
    let aside = passes::set_aside(&mut original, engines.main()).map_err(of_model)?;
    Ok(Loaded {
        aside,
        original,
        statistics: config.statistics.as_deref().map(read_statistics).transpose()?.unwrap_or_default(),
        images: config.evaluation.as_ref().map(|(file, _)| Dataset::read_labelled(file)).transpose()?,
        watched,
        _claim: claim,
    })
}

/// Returns the float network: normalized, with batch normalization read and folded, at the opset of the target.
pub(super) fn prepare(loaded: &Loaded, config: &Config, engines: &Engines) -> Result<Prepared> {
    let of_model = |error: Error| error.in_model(&config.model);
    let (mut float, frozen, mut passes) = normalised(loaded, config, engines).map_err(of_model)?;
    let mut norms = read_batch_norms(&float);
    let before_folding = float.clone();
    passes.extend(passes::fold(&mut float).map_err(of_model)?);
    raise_opset(&mut float, config.policy.target.choices().opset).map_err(of_model)?;
    // Last: the passes before must not treat sizes that the file leaves open as constants.
    let Fixed { declared, batch } = fix_sizes(&mut float, &loaded.original, config)?;
    let mut guess = guess_input(&with_inputs_of(before_folding, &float), &norms);
    let place = config.statistics.as_ref().map_or(String::new(), |path| path.display().to_string());
    let given = place_statistics(&float, &loaded.statistics, &place)?;
    if guess.source == InputSource::Assumed {
        guess = guess_input(&float, &given);
    }
    let warnings = check_evaluation(loaded, config, (&float, &guess))?.into_iter().collect();
    let given_input = of_pixels(loaded, config, &float)?.or_else(|| config.input.clone());
    let input = given_input.filter(|_| guess.source != InputSource::Bytes).unwrap_or(guess);
    input.check_channels(&float)?;
    infer_by_running(&mut float, &input, engines.main(), config.seed)?;
    let (batch_norms, given_count) = (norms.len(), given.len());
    norms.retain(|norm| given.iter().all(|g| g.output != norm.output));
    norms.extend(given);
    let inputs = known_inputs(&float, &input);
    let at_sizes = declared.is_some().then(|| at_fixed_sizes(&float, engines)).transpose()?;
    Ok(Prepared {
        float,
        at_sizes,
        norms,
        batch_norms,
        given: given_count,
        input,
        inputs,
        declared,
        batch,
        frozen,
        passes,
        warnings,
    })
}

/// The graph, its fixed axes, and the passes with their numbers of changes.
type Normalised = (Graph, Vec<FrozenAxis>, Vec<(&'static str, usize)>);

/// Returns the normalized float model without exporter artifacts, ready to be quantized.
fn normalised(loaded: &Loaded, config: &Config, engines: &Engines) -> Result<Normalised> {
    let mut float = loaded.original.clone();
    passes::declare_ranks(&mut float, &config.input_shapes)?;
    let mut passes = passes::normalise(&mut float, engines.main())?;
    let frozen = passes::freeze_axes(&mut float, &config.input_shapes, engines.main())?;
    if !frozen.is_empty() {
        passes.extend(passes::normalise(&mut float, engines.main())?);
    }
    passes::validate(&float)?;
    Ok((float, frozen, passes))
}

impl Prepared {
    /// Returns the float network for training: with constants where the file has chains of Shape, Gather and Concat.
    fn at_fixed_sizes(&self) -> &Graph {
        self.at_sizes.as_ref().unwrap_or(&self.float)
    }

    /// Returns the quantization policy, which depends on the ranges that rest on a guess.
    pub fn policy(&self, config: &Config) -> Policy {
        let guessed = guessed(&self.float, &self.norms, &self.inputs);
        Policy { float_activations: config.activations.float(&guessed), ..config.policy.clone() }
    }
}

/// Reads the inputs that the user handed over, if any; their statistics replace the assumed ones.
pub(super) fn handed_over(prepared: &mut Prepared, config: &Config) -> Result<Option<HandedOver>> {
    let Some((path, preprocess)) = &config.data else { return Ok(None) };
    let Prepared { float, input, batch, .. } = prepared;
    let handed = HandedOver::read(path, float, preprocess, (&*input, *batch))?;
    if input.source.is_guess()
        && let Some(of_data) = InputStatistics::of_data(float, &handed.seen)?
    {
        *input = of_data;
    }
    prepared.inputs = known_inputs(&prepared.float, &prepared.input);
    for known in &mut prepared.inputs {
        known.source = if known.source.is_guess() { InputSource::Data } else { known.source };
        known.is_guess = false;
    }
    Ok(Some(handed))
}

/// Generates synthetic inputs for the network.
pub(super) fn synthesis(
    prepared: &Prepared,
    config: &Config,
    engines: &Engines,
    observer: &mut dyn Observer,
) -> Result<SyntheticImages> {
    let Prepared { norms, input, .. } = prepared;
    refuse_states(&prepared.float)?;
    let source = Source { float: prepared.at_fixed_sizes(), norms, input, threads: engines.threads };
    // Half of the time where stages are trained, whose batches may be too small for statistics.
    let is_trained = !config.stages.is_empty();
    let deadline = share_of(config.training.deadline, if is_trained { 2 } else { 1 });
    let batch = config.training.batch.filter(|_| !is_trained);
    let settings = Settings { deadline, batch, ..config.training.clone() };
    synthesise(&source, &config.synthesis, &run_of(config, &settings, engines), observer)
}

/// Returns the run of the training stages.
fn run_of<'a>(config: &'a Config, settings: &'a Settings, engines: &'a Engines) -> Run<'a> {
    Run::new(&config.model, config.seed, settings, engines.main(), config.output.is_none())
}

/// Plans for `policy` and runs the recipe, with `images` for the network, if any.
pub(super) fn solve(
    (prepared, images): (&Prepared, Option<&[Tensor]>),
    policy: &Policy,
    config: &Config,
    engines: &Engines,
) -> Result<Solved> {
    let context = context((prepared, images), config, engines);
    let candidates = recipes::prepare(config.recipe, &prepared.float, policy, &context);
    (config.recipe.run)(&candidates.map_err(|error| error.in_model(&config.model))?, &context)
}

/// Trains the recipe's solution, on `images` if there are any; a dry run makes no step. `observer` receives the
/// progress.
pub(super) fn train(
    solved: &mut Solved,
    (prepared, images, made): (&Prepared, Option<&[Tensor]>, Option<&SyntheticImages>),
    config: &Config,
    engines: &Engines,
    observer: &mut dyn Observer,
) -> Result<Vec<StageReport>> {
    refuse_states(&prepared.float)?;
    let mut lab = lab((prepared, images, made), config, engines, observer);
    let mut fixed = solved_at_fixed_sizes(solved, prepared, engines)?;
    let stages = recipes::train((&config.stages, &config.recipe.effort), &mut fixed, &mut lab)?;
    solved.solution = fixed.solution;
    Ok(stages)
}

/// Replaces the `trained` solution by the recipe's solution without images where training on images did not come closer
/// to the float network; returns the comparison of both.
pub(super) fn keep_nearer(
    trained: &mut Solved,
    (prepared, images, made): (&Prepared, Option<&[Tensor]>, Option<&SyntheticImages>),
    policy: &Policy,
    config: &Config,
    engines: &Engines,
) -> Result<HeldOut> {
    let start = solve((prepared, None), policy, config, engines)?;
    let mut silent = Silent;
    let both = [&start, &*trained].map(|solved| solved_at_fixed_sizes(solved, prepared, engines));
    let [first, second] = both;
    let lab = lab((prepared, images, made), config, engines, &mut silent);
    let found = recipes::against(&first?, &second?, &lab)?;
    if !found.is_kept {
        *trained = start;
    }
    Ok(found)
}

fn lab<'a>(
    (prepared, images, made): (&'a Prepared, Option<&'a [Tensor]>, Option<&SyntheticImages>),
    config: &'a Config,
    engines: &'a Engines,
    observer: &'a mut dyn Observer,
) -> Lab<'a> {
    let (float, context) = (prepared.at_fixed_sizes(), context((prepared, images), config, engines));
    let planned = || made.filter(|made| made.inputs.is_empty()).map(|made| Supply::Planned(made.report.options.images));
    let images = images.map(|images| Supply::Ready(images.to_vec())).or_else(planned);
    let trained_generator = made.and_then(|made| made.trained_generator.clone());
    Lab::new((float, context), (images, trained_generator), run_of(config, &config.training, engines), observer)
}

fn context<'a>(
    (prepared, images): (&'a Prepared, Option<&'a [Tensor]>),
    config: &Config,
    engines: &'a Engines,
) -> CalibrationContext<'a> {
    let Prepared { norms, input, .. } = prepared;
    CalibrationContext { norms, input, images, engine: engines.main(), seed: config.seed, threads: engines.threads }
}

/// Returns the outputs of the float network on held-out inputs that were handed over, else on synthetic ones.
pub(super) fn float_answers<'a>(
    (prepared, handed): (&Prepared, Option<&HandedOver>),
    config: &Config,
    engines: &'a Engines,
) -> Result<Reference<'a>> {
    let Prepared { float, input, .. } = prepared;
    let samples = samples(float, config);
    let inputs = match handed {
        Some(handed) => handed.first_held_out(samples)?,
        None => input.synthetic(float, samples, config.seed, engines.threads)?,
    };
    Reference::new(engines.main(), float, &inputs)
}

/// Returns the number of samples of the checks.
pub(super) fn samples(float: &Graph, config: &Config) -> usize {
    config.samples.unwrap_or_else(|| default_samples(total_macs(float)))
}

fn raise_opset(float: &mut Graph, opset: i64) -> Result<()> {
    onnx::upgrade(float, opset)?;
    shape::infer(float)
}
