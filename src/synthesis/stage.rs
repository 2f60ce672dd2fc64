//! The synthesis stage: trains one generator per batch of images, one after the other.

use std::time::Instant;

use rand::RngExt;
use rand::seq::SliceRandom;
use rand_distr::StandardNormal;
use serde::Serialize;

use super::answers::{Answers, answers};
use super::step::{ImageSynthesis, Maker, slack};
use super::{Generator, Latents, Options, SynthesisTeacher};
use crate::error::{Error, Result};
use crate::ir::{Graph, Tensor};
use crate::observe::Observer;
use crate::runtime::SessionOptions;
use crate::stats::{BatchNorm, InputStatistics};
use crate::train::{
    Checkpoints, FitOptions, LearningRate, PlayOptions, Played, Rollback, Run, Schedule, TrainingStep, descend,
    fitting_batch, peak_bytes, share_of, step_rng,
};

/// Images per generator.
const BATCH: usize = 128;
/// The smallest batch with usable statistics.
const SMALLEST_BATCH: usize = 16;
/// Images after less than one part in this many of the steps are hardly better than noise.
const FEWEST_STEPS: u64 = 4;
/// Separates the random numbers of this stage from those of others.
const STAGE: u64 = 0x7379_6e74_6865_7369;

/// The sources of image synthesis.
pub struct SynthesisContext<'a> {
    /// The float network with folded batch normalization.
    pub float: &'a Graph,
    /// The statistics of batch normalization, read before folding.
    pub norms: &'a [BatchNorm],
    /// The known statistics of the network's input.
    pub input: &'a InputStatistics,
    /// The number of threads; results do not depend on it.
    pub threads: usize,
}

/// Synthetic images and their report.
#[derive(Clone, Debug)]
pub struct SyntheticImages {
    /// One tensor per network input, samples first; empty in a dry run.
    pub inputs: Vec<Tensor>,
    /// The names of the inputs.
    pub names: Vec<String>,
    /// The float images `[N, C, H, W]` (or vectors `[N, C]`) among them.
    pub images: Option<Tensor>,
    /// The last generator after training, where the network has no other input than the images.
    pub trained_generator: Option<TrainedGenerator>,
    /// The report.
    pub report: SynthesisReport,
}

/// A trained generator for a network with one input, and its synthesis settings.
#[derive(Clone, Debug)]
pub struct TrainedGenerator {
    /// The synthesis settings.
    pub synthesis: ImageSynthesis,
    /// Its weights, in the order of [`Generator::weights`].
    pub weights: Tensor,
    /// Its latents, in the order of [`Latents::vector`].
    pub latents: Tensor,
    /// The number of classes, for a class-conditional generator.
    pub classes: Option<usize>,
}

/// The report of image synthesis.
#[derive(Clone, Debug, Serialize)]
pub struct SynthesisReport {
    /// The options.
    pub options: Options,
    /// Images per generator.
    pub batch: usize,
    /// The loss terms and their weights.
    pub weights: Vec<(&'static str, f64)>,
    /// The number of normalized tensors whose statistics were compared.
    pub layers: usize,
    /// Multiply-accumulates per image of the teacher and of a generator.
    pub macs: [u64; 2],
    /// Bytes of the tensors of a step.
    pub step_bytes: usize,
    /// Operators without gradient.
    pub blocked: Vec<String>,
    /// The training of each generator.
    pub generators: Vec<Trained>,
    /// The teacher's predictions on the images.
    pub answers: Option<Answers>,
}

impl SynthesisReport {
    /// Returns the completed and the planned steps of all generators.
    pub fn steps(&self) -> [u64; 2] {
        let done = self.generators.iter().map(|generator| generator.steps).sum();
        [done, self.generators.iter().map(|_| self.options.steps).sum()]
    }

    /// Returns whether images are better than the noise that generators start from.
    pub fn is_of_use(&self) -> bool {
        let [done, planned] = self.steps();
        done >= planned / FEWEST_STEPS
    }
}

/// The training of one generator.
#[derive(Clone, Debug, Serialize)]
pub struct Trained {
    /// Completed steps.
    pub steps: u64,
    /// The step at which a checkpoint was resumed, 0 for uninterrupted training.
    pub resumed_at: u64,
    /// Rollbacks after the loss diverged.
    pub rollbacks: Vec<Rollback>,
    /// The loss of every step and its terms, by name.
    pub losses: Vec<(String, Vec<f32>)>,
}

/// Generates the images of `options` for the network of `source` and reports progress to `observer`.
///
/// # Errors
/// [`Error::Unsupported`] for networks with neither statistics nor logits to synthesize from; when a checkpoint belongs
/// to another run, or the engine fails.
pub fn synthesise(
    source: &SynthesisContext,
    options: &Options,
    run: &Run,
    observer: &mut dyn Observer,
) -> Result<SyntheticImages> {
    let mut batches = Batches::new(source, options, run.seed)?;
    let usual = BATCH.min(options.images.max(SMALLEST_BATCH));
    let lowering = run.engine.lowering();
    let build = |batch: usize| -> Result<TrainingStep> {
        let others = other_inputs(source, &batches.synthesis.teacher, batch, run.seed)?;
        let synthesis = ImageSynthesis { others, ..batches.synthesis.clone() };
        synthesis.step(&batches.maker(batch, 0)?, &lowering)
    };
    let (step, batch) = fitting_batch(&batches.synthesis.teacher.graph, run.settings, usual, &build)?;
    let mut report = SynthesisReport {
        options: options.clone(),
        batch,
        weights: batches.synthesis.weights.clone(),
        layers: batches.synthesis.teacher.normals.len(),
        macs: [batches.synthesis.teacher.macs, batches.generator(0)?.macs()],
        step_bytes: peak_bytes(&step.graph),
        blocked: batches.synthesis.teacher.blocked.clone(),
        generators: Vec::new(),
        answers: None,
    };
    let count = options.images.div_ceil(batch.max(1));
    let spec = &batches.synthesis.teacher.spec;
    let key = (options, &report.weights, source.input, source.norms, (spec.name.as_str(), spec.shape(1)));
    let checkpoints =
        (0..count).map(|number| run.checkpoints(&name(number), batch, &key)).collect::<Result<Vec<_>>>()?;
    if run.dry_run {
        return Ok(SyntheticImages {
            inputs: Vec::new(),
            names: Vec::new(),
            images: None,
            trained_generator: None,
            report,
        });
    }
    batches.synthesis.others = other_inputs(source, &batches.synthesis.teacher, batch, run.seed)?;
    let mut first = Some(step);
    if report.weights.iter().any(|(name, _)| *name == "bn-slack") {
        batches.synthesis.slack = slacks(&batches.synthesis, batch, run)?;
        first = None;
    }
    let (mut images, mut last) = (Vec::with_capacity(count), None);
    for (number, checkpoints) in checkpoints.into_iter().enumerate() {
        let title = format!("synthesis {} of {count}", number + 1);
        let one = (number as u64, batch, first.take());
        let until = share_of(run.settings.deadline, count - number);
        let (made, state, trained) = batches.train(one, (&title, checkpoints, until), (options, run), observer)?;
        images.push(made);
        last = Some(state);
        report.generators.push(trained);
    }
    let spec = &batches.synthesis.teacher.spec;
    let images = spec.as_pixels(Tensor::joined(&images.iter().collect::<Vec<_>>())?.rows(0..options.images)?)?;
    let others = other_inputs(source, &batches.synthesis.teacher, options.images, run.seed)?;
    let floats = beside(source.float, &spec.name, spec.as_fed_floats(&images)?, &others);
    report.answers = answers(&batches.synthesis.teacher, &floats, run.engine)?;
    let inputs = beside(source.float, &spec.name, spec.as_fed_tensor(&images)?, &others);
    let names = source.float.fed_inputs().into_iter().map(|id| source.float.name_of(id).to_owned()).collect();
    let Batches { synthesis, classes, .. } = batches;
    let last = last.filter(|_| synthesis.others.is_empty());
    let trained_generator = last.map(|[weights, latents]| TrainedGenerator { synthesis, weights, latents, classes });
    Ok(SyntheticImages { inputs, names, images: Some(images), trained_generator, report })
}

/// Batches of images, with a generator each that is initialized from the seed and the batch number.
struct Batches<'a> {
    synthesis: ImageSynthesis,
    source: &'a SynthesisContext<'a>,
    /// The number of classes, for class-conditional images.
    classes: Option<usize>,
    seed: u64,
}

impl<'a> Batches<'a> {
    fn new(source: &'a SynthesisContext<'a>, options: &Options, seed: u64) -> Result<Self> {
        let synthesis = ImageSynthesis::new(source, options)?;
        let classes = synthesis.teacher.logits.as_ref().map(|logits| logits.1);
        let classes = classes.filter(|_| options.conditional != Some(false));
        if options.conditional == Some(true) && classes.is_none() {
            return Err(Error::Usage("--conditional: the model has no logits to choose classes of".to_owned()));
        }
        Ok(Self { synthesis, source, classes, seed })
    }

    fn generator(&self, number: u64) -> Result<Generator> {
        let SynthesisTeacher { spec, macs, .. } = &self.synthesis.teacher;
        Generator::new(spec, self.source.input, *macs, (self.seed, STAGE ^ number))
    }

    fn maker(&self, batch: usize, number: u64) -> Result<Maker> {
        let latents = Latents::new(batch, self.classes, (self.seed, STAGE ^ number))?;
        let labels = chosen(batch, self.classes, self.seed, number);
        Ok(Maker { generator: self.generator(number)?, latents, labels })
    }

    /// Trains the generator of a batch by `step`, which is built if there is none; returns the final images
    /// `[N, C, H, W]`, the weights and latents, and the training report.
    fn train(
        &self,
        (number, batch, step): (u64, usize, Option<TrainingStep>),
        (title, checkpoints, until): (&str, Option<Checkpoints>, Option<Instant>),
        (options, run): (&Options, &Run),
        observer: &mut dyn Observer,
    ) -> Result<(Tensor, [Tensor; 2], Trained)> {
        let (maker, lowering) = (self.maker(batch, number)?, run.engine.lowering());
        let step = step.map_or_else(|| self.synthesis.step(&maker, &lowering), Ok)?;
        let rate =
            LearningRate::new(options.learning_rate, Schedule::Cosine { steps: options.steps, floor: 0.0, warmup: 0 });
        let play = PlayOptions { stage: title.to_owned(), checkpoints, until };
        let course = FitOptions { steps: options.steps, rate, play };
        let mut feed = |step| Ok(self.synthesis.feeds((run.seed, STAGE ^ number, step)));
        let played = descend(&step, run.engine, course, &mut feed, observer)?;
        let readout = self.synthesis.readout(&maker, &lowering)?;
        let state = [played.tensor("weights")?, played.tensor("latents")?];
        let made = run.engine.load(&readout, &SessionOptions::default())?.run(&state)?;
        let images = made.into_iter().next().ok_or_else(|| Error::shape("readout", "makes no image"))?;
        Ok((images, state, Trained::of(played)))
    }
}

/// Returns the network's other inputs for `samples` samples, by name.
fn other_inputs(
    source: &SynthesisContext,
    teacher: &SynthesisTeacher,
    samples: usize,
    seed: u64,
) -> Result<Vec<(String, Tensor)>> {
    let ids = source.float.fed_inputs();
    if ids.len() < 2 {
        return Ok(Vec::new());
    }
    let tensors = source.input.synthetic(source.float, samples, seed ^ STAGE, source.threads)?;
    let named = ids.into_iter().map(|id| source.float.name_of(id).to_owned()).zip(tensors);
    Ok(named.filter(|(name, _)| *name != teacher.spec.name).collect())
}

/// Returns the inputs of `graph` in order: `images` for the one named `name`, and the others.
fn beside(graph: &Graph, name: &str, images: Tensor, others: &[(String, Tensor)]) -> Vec<Tensor> {
    let input = |id| {
        let other = others.iter().find(|(other, _)| *other == graph.name_of(id) && other != name);
        other.map_or_else(|| images.clone(), |(_, tensor)| tensor.clone())
    };
    graph.fed_inputs().into_iter().map(input).collect()
}

/// Returns the slack of each layer: the difference that nine of ten channels stay within on noise (Zhang et al. 2021,
/// DSG, section 3.2).
fn slacks(synthesis: &ImageSynthesis, batch: usize, run: &Run) -> Result<Vec<[f32; 2]>> {
    let shape: Vec<usize> = synthesis.teacher.spec.shape(batch);
    let mut rng = step_rng(run.seed, STAGE, u64::MAX - 3);
    let channel = |c: usize| synthesis.input.channel(c);
    let sizes: usize = shape[2..].iter().product();
    let value = |i: usize| -> f32 {
        let (mean, std) = channel(i / sizes % shape[1]);
        let (mean, std) = (mean as f32, std as f32);
        mean + std * rng.sample::<f32, _>(StandardNormal)
    };
    let values: Vec<f32> = (0..shape.iter().product()).map(value).collect();
    let noise = synthesis.input.clamp(Tensor::from_f32(&shape, &values))?;
    let off = run.engine.load(&synthesis.off(batch)?, &SessionOptions::default())?.run(&[noise])?;
    let slacks = off.chunks(2).map(|pair| Ok([slack(&pair[0].to_f32()?), slack(&pair[1].to_f32()?)]));
    slacks.collect()
}

impl Trained {
    fn of(played: Played) -> Self {
        let (steps, losses) = (played.steps(), played.losses());
        Self { steps, resumed_at: played.resumed, rollbacks: played.rollbacks, losses }
    }
}

/// The name of a generator's checkpoint.
fn name(number: usize) -> String {
    format!("synthesis-{number}")
}

/// Returns one-hot labels for a batch, `[N, classes]`, with class counts that differ by at most one.
fn chosen(batch: usize, classes: Option<usize>, seed: u64, number: u64) -> Option<Tensor> {
    let classes = classes?;
    let mut drawn: Vec<usize> = (0..batch).map(|i| i % classes).collect();
    drawn.shuffle(&mut step_rng(seed, STAGE ^ number, u64::MAX - 2));
    let mut ones = vec![0.0; batch * classes];
    drawn.iter().enumerate().for_each(|(i, class)| ones[i * classes + class] = 1.0);
    Some(Tensor::from_f32(&[batch, classes], &ones))
}
