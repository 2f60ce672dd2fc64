//! From the float model to the float student, and from that to grids and integers.

use std::collections::BTreeMap;

use super::Config;
use super::handed_over::HandedOver;
use super::scale::{check_evaluation, of_pixels};
use crate::data::Dataset;
use crate::error::Result;
use crate::ir::{Graph, Tensor};
use crate::observe::{Observer, Silent};
use crate::plan::{Policy, part_shortcuts, plan, total_macs};
use crate::recipes::{self, HeldOut, Solved, StageReport, Supply, Teacher, Training};
use crate::report::Warning;
use crate::runtime::Engines;
use crate::sensitivity::Reference;
use crate::stats::{
    BatchNorm, InputSource, InputStatistics, KnownInput, TensorStatistics, guess_input, guessed, known_inputs,
    place_statistics, read_batch_norms, read_statistics,
};
use crate::synthesis::{Made, Source, synthesise};
use crate::train::{Run, RunFolder, Settings, share_of};
use crate::verify::limits::default_samples;
use crate::{onnx, passes, shape};

/// What is read from files before anything is computed.
pub(super) struct Loaded {
    /// The float model as it is.
    pub original: Graph,
    /// Statistics that came in a file of their own.
    statistics: BTreeMap<String, TensorStatistics>,
    /// Labelled images.
    pub images: Option<Dataset>,
}

/// The float student, and what the teacher's file said before normalisations were folded away.
pub(super) struct Prepared {
    pub student: Graph,
    pub norms: Vec<BatchNorm>,
    /// How many normalisations the model holds.
    pub batch_norms: usize,
    /// How many tensors' statistics came in a file of their own.
    pub given: usize,
    pub input: InputStatistics,
    /// What is known of each input.
    pub inputs: Vec<KnownInput>,
    /// The batch that the model fixes, where the student's is free.
    pub batch: Option<usize>,
    pub passes: Vec<(&'static str, usize)>,
    /// What the user should know of the files that were handed over.
    pub warnings: Vec<Warning>,
}

/// Returns the model and the files that go with it, once it is clear that checkpoints have a place of their own.
pub(super) fn load(config: &Config) -> Result<Loaded> {
    config.training.folder.as_ref().map_or(Ok(()), RunFolder::refuse_used)?;
    Ok(Loaded {
        original: onnx::load(&config.model)?,
        statistics: config.statistics.as_deref().map(read_statistics).transpose()?.unwrap_or_default(),
        images: config.evaluation.as_ref().map(|(file, _)| Dataset::read_labelled(file)).transpose()?,
    })
}

/// Returns the student: normalised, its normalisations read and folded, at the operator set of the target.
pub(super) fn prepare(loaded: &Loaded, config: &Config, engines: &Engines) -> Result<Prepared> {
    let mut student = loaded.original.clone();
    passes::fix_shapes(&mut student, &config.input_shapes)?;
    let mut passes = passes::normalise(&mut student, engines.main())?;
    passes::refuse_unfit(&student)?;
    let mut norms = read_batch_norms(&student);
    let mut guess = guess_input(&student, &norms);
    passes.extend(passes::fold(&mut student)?);
    raise_opset(&mut student, config.policy.target.choices().opset)?;
    let batch = student.fixed_batch().filter(|_| passes::free_batch(&mut student) > 0);
    let place = config.statistics.as_ref().map_or(String::new(), |path| path.display().to_string());
    let given = place_statistics(&student, &loaded.statistics, &place)?;
    if guess.source == InputSource::Assumed {
        guess = guess_input(&student, &given);
    }
    let warnings = check_evaluation(loaded, config, (&student, &guess))?.into_iter().collect();
    let given_input = of_pixels(loaded, config, &student)?.or_else(|| config.input.clone());
    let input = given_input.filter(|_| guess.source != InputSource::Bytes).unwrap_or(guess);
    input.check_channels(&student)?;
    let (batch_norms, given_count) = (norms.len(), given.len());
    norms.retain(|norm| given.iter().all(|g| g.output != norm.output));
    norms.extend(given);
    let inputs = known_inputs(&student, &input);
    Ok(Prepared { student, norms, batch_norms, given: given_count, input, inputs, batch, passes, warnings })
}

impl Prepared {
    /// Returns what goes where, now that it is known which ranges rest on a guess.
    pub fn policy(&self, config: &Config) -> Policy {
        let guessed = guessed(&self.student, &self.norms, &self.inputs);
        Policy { float_activations: config.activations.float(&guessed), ..config.policy.clone() }
    }
}

/// Reads the inputs that the user handed over, if any; what was only assumed of inputs is what they are from then on.
pub(super) fn handed_over(prepared: &mut Prepared, config: &Config) -> Result<Option<HandedOver>> {
    let Some((path, preprocess)) = &config.data else { return Ok(None) };
    let Prepared { student, input, batch, .. } = prepared;
    let handed = HandedOver::read(path, student, preprocess, (&*input, *batch))?;
    if input.source.is_guess()
        && let Some(of_data) = InputStatistics::of_data(student, &handed.seen)?
    {
        *input = of_data;
    }
    prepared.inputs = known_inputs(&prepared.student, &prepared.input);
    for known in &mut prepared.inputs {
        known.source = if known.source.is_guess() { InputSource::Data } else { known.source };
        known.is_guess = false;
    }
    Ok(Some(handed))
}

/// Makes inputs for the network.
pub(super) fn synthesis(
    prepared: &Prepared,
    config: &Config,
    engines: &Engines,
    observer: &mut dyn Observer,
) -> Result<Made> {
    let Prepared { student: float, norms, input, .. } = prepared;
    let source = Source { float, norms, input, threads: engines.threads };
    // Half of the time, where there is training to do, whose steps may have fewer samples than statistics need.
    let is_trained = !config.stages.is_empty();
    let deadline = share_of(config.training.deadline, if is_trained { 2 } else { 1 });
    let batch = config.training.batch.filter(|_| !is_trained);
    let settings = Settings { deadline, batch, ..config.training.clone() };
    synthesise(&source, &config.synthesis, &run_of(config, &settings, engines), observer)
}

/// Returns the run that stages which are trained belong to.
fn run_of<'a>(config: &'a Config, settings: &'a Settings, engines: &'a Engines) -> Run<'a> {
    Run::new(&config.model, config.seed, settings, engines.main(), config.output.is_none())
}

/// Plans for `policy` and runs the recipe on a student of its own, with `images` that were made for the network.
pub(super) fn solve(
    (prepared, images): (&Prepared, Option<&[Tensor]>),
    policy: &Policy,
    config: &Config,
    engines: &Engines,
) -> Result<Solved> {
    let mut student = prepared.student.clone();
    part_shortcuts(&mut student, policy)?;
    let plan = plan(&student, policy)?;
    raise_opset(&mut student, plan.opset())?;
    let solution = (config.recipe.run)(&mut student, &plan, &teacher((prepared, images), config, engines))?;
    Ok(Solved { student, plan, solution })
}

/// Trains what the recipe found, on `images` where any were made; a dry run makes no step. `observer` hears how far it is.
pub(super) fn train(
    solved: &mut Solved,
    (prepared, images, made): (&Prepared, Option<&[Tensor]>, Option<&Made>),
    config: &Config,
    engines: &Engines,
    observer: &mut dyn Observer,
) -> Result<Vec<StageReport>> {
    let mut training = training((prepared, images, made), config, engines, observer);
    recipes::train((&config.stages, &config.recipe.effort), solved, &mut training)
}

/// Puts what the recipe finds without images in the place of what was `trained` on some, where training did not come nearer
/// to the float network than that; returns how both compare.
pub(super) fn keep_nearer(
    trained: &mut Solved,
    (prepared, images, made): (&Prepared, Option<&[Tensor]>, Option<&Made>),
    policy: &Policy,
    config: &Config,
    engines: &Engines,
) -> Result<HeldOut> {
    let start = solve((prepared, None), policy, config, engines)?;
    let mut silent = Silent;
    let found = recipes::against(&start, trained, &training((prepared, images, made), config, engines, &mut silent))?;
    if !found.is_kept {
        *trained = start;
    }
    Ok(found)
}

fn training<'a>(
    (prepared, images, made): (&'a Prepared, Option<&'a [Tensor]>, Option<&Made>),
    config: &'a Config,
    engines: &'a Engines,
    observer: &'a mut dyn Observer,
) -> Training<'a> {
    let (float, teacher) = (&prepared.student, teacher((prepared, images), config, engines));
    let planned = || made.filter(|made| made.inputs.is_empty()).map(|made| Supply::Planned(made.report.options.images));
    let images = images.map(|images| Supply::Ready(images.to_vec())).or_else(planned);
    let rival = made.and_then(|made| made.rival.clone());
    Training::new((float, teacher), (images, rival), run_of(config, &config.training, engines), observer)
}

fn teacher<'a>(
    (prepared, images): (&'a Prepared, Option<&'a [Tensor]>),
    config: &Config,
    engines: &'a Engines,
) -> Teacher<'a> {
    let Prepared { norms, input, .. } = prepared;
    Teacher { norms, input, images, engine: engines.main(), seed: config.seed, threads: engines.threads }
}

/// Returns what the float student makes of inputs that were handed over and held out, else of synthetic ones.
pub(super) fn float_answers<'a>(
    (prepared, handed): (&Prepared, Option<&HandedOver>),
    config: &Config,
    engines: &'a Engines,
) -> Result<Reference<'a>> {
    let Prepared { student, input, .. } = prepared;
    let samples = samples(student, config);
    let inputs = match handed {
        Some(handed) => handed.first_held_out(samples)?,
        None => input.synthetic(student, samples, config.seed, engines.threads)?,
    };
    Reference::new(engines.main(), student, &inputs)
}

/// Returns how many samples the checks run.
pub(super) fn samples(student: &Graph, config: &Config) -> usize {
    config.samples.unwrap_or_else(|| default_samples(total_macs(student)))
}

fn raise_opset(student: &mut Graph, opset: i64) -> Result<()> {
    onnx::upgrade(student, opset)?;
    shape::infer(student)
}
