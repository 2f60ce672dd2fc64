//! The synthesis stage: trains one generator per batch of images, one after the other.

use rand::RngExt;
use rand::seq::SliceRandom;
use rand_distr::StandardNormal;

use super::answers::answers;
use super::report::{GeneratorReport, SynthesisReport};
use super::step::{ImageSynthesis, Maker, slack};
use super::{Generator, Latents, Options, SynthesisTeacher};
use crate::error::{Error, Result};
use crate::ir::{Graph, Tensor};
use crate::observe::Observer;
use crate::runtime::SessionOptions;
use crate::stats::{BatchNorm, InputStatistics};
use crate::train::{
    FitOptions, LearningRate, PlayOptions, RandomStream, Run, TrainingStep, descend, fitting_batch, peak_bytes,
    share_of, step_rng,
};

/// Images per generator.
const BATCH: usize = 128;
/// The smallest batch with usable statistics.
const SMALLEST_BATCH: usize = 16;
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
    let mut batches = Batches::new(source, options, run)?;
    let usual = BATCH.min(options.images.max(SMALLEST_BATCH));
    let lowering = run.engine.lowering();
    let build = |batch: usize| -> Result<TrainingStep> {
        let others = other_inputs(source, &batches.synthesis.teacher, batch, run.seed)?;
        let synthesis = ImageSynthesis { others, ..batches.synthesis.clone() };
        synthesis.step(&batches.maker(batch, batches.stream(0))?, &lowering)
    };
    let (step, batch) = fitting_batch(&batches.synthesis.teacher.graph, run.settings, usual, &build)?;
    let mut report = batches.report(batch, &step)?;
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
        let stage = format!("synthesis {} of {count}", number + 1);
        let play = PlayOptions { stage, checkpoints, until: share_of(run.settings.deadline, count - number) };
        let stream = batches.stream(number as u64);
        let maker = batches.maker(batch, stream)?;
        let step = first.take().map_or_else(|| batches.synthesis.step(&maker, &lowering), Ok)?;
        let made = batches.train(&maker, &step, stream, play, observer)?;
        images.push(made.images);
        last = Some(made.state);
        report.generators.push(made.report);
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
    options: &'a Options,
    run: &'a Run<'a>,
    /// The number of classes, for class-conditional images.
    classes: Option<usize>,
}

/// The result of a batch.
struct Batch {
    /// `[N, C, H, W]`, or `[N, C]` for vectors.
    images: Tensor,
    /// The weights and latents of the generator.
    state: [Tensor; 2],
    report: GeneratorReport,
}

impl<'a> Batches<'a> {
    fn new(source: &'a SynthesisContext<'a>, options: &'a Options, run: &'a Run<'a>) -> Result<Self> {
        let synthesis = ImageSynthesis::new(source, options)?;
        let classes = synthesis.teacher.logits.as_ref().map(|logits| logits.1);
        let classes = classes.filter(|_| options.conditional != Some(false));
        if options.conditional == Some(true) && classes.is_none() {
            return Err(Error::Usage("--conditional: the model has no logits to choose classes of".to_owned()));
        }
        Ok(Self { synthesis, source, options, run, classes })
    }

    /// Returns the report before any training.
    fn report(&self, batch: usize, step: &TrainingStep) -> Result<SynthesisReport> {
        let ImageSynthesis { teacher, weights, .. } = &self.synthesis;
        Ok(SynthesisReport {
            options: self.options.clone(),
            batch,
            weights: weights.clone(),
            layers: teacher.normals.len(),
            macs: [teacher.macs, self.generator(self.stream(0))?.macs()],
            step_bytes: peak_bytes(&step.graph),
            blocked: teacher.blocked.clone(),
            generators: Vec::new(),
            answers: None,
        })
    }

    /// Returns the random numbers of a batch.
    fn stream(&self, number: u64) -> RandomStream {
        RandomStream::new(self.run.seed, STAGE ^ number)
    }

    fn generator(&self, stream: RandomStream) -> Result<Generator> {
        let SynthesisTeacher { spec, macs, .. } = &self.synthesis.teacher;
        Generator::new(spec, self.source.input, *macs, stream)
    }

    fn maker(&self, batch: usize, stream: RandomStream) -> Result<Maker> {
        let latents = Latents::new(batch, self.classes, stream)?;
        let labels = chosen(batch, self.classes, stream);
        Ok(Maker { generator: self.generator(stream)?, latents, labels })
    }

    /// Trains the generator and the latents of `maker` by `step`.
    fn train(
        &self,
        maker: &Maker,
        step: &TrainingStep,
        stream: RandomStream,
        play: PlayOptions,
        observer: &mut dyn Observer,
    ) -> Result<Batch> {
        let (Options { steps, learning_rate, .. }, engine) = (self.options, self.run.engine);
        let options = FitOptions { steps: *steps, rate: LearningRate::cosine(*learning_rate, *steps), play };
        let mut feed = |step| Ok(self.synthesis.feeds(stream, step));
        let played = descend(step, engine, options, &mut feed, observer)?;
        let readout = self.synthesis.readout(maker, &engine.lowering())?;
        let state = [played.tensor("weights")?, played.tensor("latents")?];
        let made = engine.load(&readout, &SessionOptions::default())?.run(&state)?;
        let images = made.into_iter().next().ok_or_else(|| Error::shape("readout", "makes no image"))?;
        Ok(Batch { images, state, report: GeneratorReport::of(played) })
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

/// The name of a generator's checkpoint.
fn name(number: usize) -> String {
    format!("synthesis-{number}")
}

/// Returns one-hot labels for a batch, `[N, classes]`, with class counts that differ by at most one.
fn chosen(batch: usize, classes: Option<usize>, stream: RandomStream) -> Option<Tensor> {
    let classes = classes?;
    let mut drawn: Vec<usize> = (0..batch).map(|i| i % classes).collect();
    drawn.shuffle(&mut stream.at(u64::MAX - 2));
    let mut ones = vec![0.0; batch * classes];
    drawn.iter().enumerate().for_each(|(i, class)| ones[i * classes + class] = 1.0);
    Some(Tensor::from_f32(&[batch, classes], &ones))
}
