//! What stages of training have in common: inputs to train on and to judge by, time, and steps with checkpoints.

use std::rc::Rc;
use std::time::Instant;

use serde::Serialize;

use super::images::{Images, Leaves};
use crate::calibrate::CalibrationContext;
use crate::data::image_channels;
use crate::digest::sha256;
use crate::error::{Error, Result};
use crate::expr::{Lowering, STANDARD};
use crate::ir::{Graph, Tensor};
use crate::observe::Observer;
use crate::onnx::{self, INLINE_LIMIT};
use crate::solution::{Solution, Solved};
use crate::synthesis::TrainedGenerator;
use crate::train::{
    BatchSampler, Checkpoints, Descent, DescentReport, FitOptions, History, LearningRate, Run, Schedule, StageReport,
    TrainingStep, descend, fingerprint, peak_bytes, share_of,
};

/// Bytes that the inputs of a stage may take.
const POOL_BYTES: usize = 256 << 20;
/// Inputs where none were made for the network, as far as memory reaches, and at least.
const LEAVES: usize = 1024;
const FEWEST: usize = 96;
/// Dead leaves for each image that was made, as far as memory reaches: few images go further beside many that are like
/// real ones in nothing but edges and colours.
const LEAVES_FOR_EACH: usize = 2;
/// One of so many inputs is held out.
const HELD_OUT: usize = 8;
/// What training may draw on beside the solution that it starts from.
pub struct Training<'a> {
    /// The float network that is the teacher.
    pub float: &'a Graph,
    /// What is known of it.
    pub context: CalibrationContext<'a>,
    /// The run.
    pub run: Run<'a>,
    /// Hears how far a stage is.
    pub observer: &'a mut dyn Observer,
    /// What the student is trained against, where images were made for the network.
    pub(super) generator_at_end: Option<TrainedGenerator>,
    images: Rc<Images>,
    /// The digest of images that were made for the network.
    digest: Option<String>,
    /// When the stage that is going on is to end.
    until: Option<Instant>,
    /// Whether the next descent starts from what it would in a run that is not dry.
    is_start_known: bool,
}

/// Images that a student of a network is trained on.
#[derive(Clone, Debug)]
pub enum Supply {
    /// Those that were made for the network, or handed over: one tensor for each of its inputs.
    Ready(Vec<Tensor>),
    /// So many, which a dry run does not make.
    Planned(usize),
}

/// Steps that are to be made.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The name, that of the checkpoint too.
    pub name: String,
    /// Steps.
    pub steps: u64,
    /// Samples of a step.
    pub batch: usize,
    /// The initial learning rate; see [`Student`](crate::train::Student) for its unit.
    pub learning_rate: f64,
    /// How it moves.
    pub schedule: Schedule,
    /// When they end before all are done.
    pub until: Option<Instant>,
}

impl<'a> Training<'a> {
    /// Returns the training of a student of `float`, on `images` (or other inputs) and dead leaves beside images, else on
    /// dead leaves alone. One of eight is held out, so that every stage is judged on what it did not
    /// see.
    pub fn new(
        (float, context): (&'a Graph, CalibrationContext<'a>),
        (images, generator_at_end): (Option<Supply>, Option<TrainedGenerator>),
        run: Run<'a>,
        observer: &'a mut dyn Observer,
    ) -> Self {
        let most = leaves(float);
        let (has_images, is_start_known) = (images.is_some(), !matches!(images, Some(Supply::Planned(_))));
        let (all, ready) = match images {
            Some(Supply::Ready(images)) => (Tensor::samples_of(&images), Some(images)),
            Some(Supply::Planned(images)) => (images, None),
            None => (most, None),
        };
        let seen = all - (all / HELD_OUT).max(1).min(all);
        let is_image = |id| float.value(id).shape.as_deref().and_then(image_channels).is_some();
        let are_beside = has_images && float.fed_inputs().into_iter().any(is_image);
        let for_each = if are_beside { LEAVES_FOR_EACH } else { 0 };
        let beside = [seen, all - seen].map(|images| most.min(for_each * images));
        let CalibrationContext { input, seed, threads, .. } = context;
        let leaves = Leaves { float: float.clone(), input: input.clone(), seed, threads };
        let digest = ready.as_ref().map(|images| sha256(images.iter().map(|tensor| &tensor.bytes()[..])));
        let images = Rc::new(Images::new(ready, leaves, [seen, all], beside));
        Self { float, context, run, observer, generator_at_end, images, digest, until: None, is_start_known }
    }

    /// Begins one of `stages` stages that are left, which gets its share of the time.
    pub(super) fn begin(&mut self, stages: usize) {
        self.until = share_of(self.run.settings.deadline, stages);
    }

    /// Returns when the first of `parts` parts of the stage that are left is to end.
    pub(super) fn until(&self, parts: usize) -> Option<Instant> {
        share_of(self.until, parts)
    }

    /// Returns the inputs to train on and to judge by.
    pub fn images(&self) -> Rc<Images> {
        Rc::clone(&self.images)
    }

    /// Returns the number of inputs that are trained on, dead leaves beside them included.
    pub fn samples(&self) -> usize {
        self.images.counts()[0] + self.images.beside()[0]
    }

    /// Returns how many dead leaves are among the first `samples` inputs that are trained on.
    pub fn leaves_among(&self, samples: usize) -> usize {
        samples.saturating_sub(self.images.counts()[0])
    }

    /// Returns the report of a stage that trained nothing yet, on the first `samples` inputs.
    pub(super) fn report(&self, stage: &'static str, samples: usize) -> StageReport {
        let leaves = self.leaves_among(samples);
        StageReport { stage, samples: samples - leaves, leaves, ..StageReport::default() }
    }

    /// Checks that there are as many inputs to train on as a step takes.
    ///
    /// # Errors
    /// [`Error::Usage`] for a batch of more, [`Error::Unsupported`] where the model fixes it.
    pub(super) fn check_batch(&self, batch: usize) -> Result<()> {
        if self.samples() >= batch {
            return Ok(());
        }
        let images = self.images.counts()[1];
        if self.float.fixed_batch().is_some() {
            let message = format!("fixes its batch at {batch}, and {images} images are too few for that; make more");
            return Err(Error::unsupported("model", message));
        }
        let message = format!("{images} images are too few for steps of {batch}; make more, or give a smaller --batch");
        Err(Error::Usage(message))
    }

    /// Returns batches of inputs to train on, varied anew whenever they are dealt out. `stage` keeps the batches of one
    /// stage apart from those of another.
    ///
    /// # Errors
    /// [`Error::Usage`] for a batch of more inputs than there are.
    pub(super) fn batches(&self, batch: usize, stage: u64) -> Result<impl FnMut(u64) -> Result<Vec<Tensor>> + use<>> {
        self.check_batch(batch)?;
        let (images, seed, mut pool) = (self.images(), self.context.seed, None);
        // Made once a checkpoint was found to be of this run.
        Ok(move |number| {
            if pool.is_none() {
                pool = Some(BatchSampler::new(images.seen()?, batch, seed, stage)?.varied());
            }
            pool.as_ref().map_or(Ok(Vec::new()), |pool: &BatchSampler| pool.batch(number))
        })
    }

    /// Writes the graph of a step to the folder that the user named for them, if any: in standard operators, which other
    /// programs open, whatever the engine runs.
    ///
    /// # Errors
    /// When the graph cannot be made or written.
    pub fn save_graph(&self, stage: &str, step: impl FnOnce(&Lowering) -> Result<TrainingStep>) -> Result<()> {
        let Some(folder) = self.run.settings.save_graphs.as_ref().filter(|_| !self.run.dry_run) else { return Ok(()) };
        std::fs::create_dir_all(folder).map_err(Error::write(folder))?;
        onnx::save(&step(&STANDARD)?.graph, &folder.join(format!("{stage}.step.onnx")), INLINE_LIMIT)?;
        Ok(())
    }

    /// Makes all steps of a descent that begins with what was `solved`. They depend on `key` beside the run, what was
    /// solved, and the inputs. Returns the state, in the order of [`TrainingStep::state`]. A dry run makes none; it checks
    /// the checkpoint of the first descent alone, since others start from what it did not make.
    ///
    /// # Errors
    /// When inputs cannot be made, a file cannot be written, a checkpoint is of another run, or the engine fails.
    pub(super) fn descend(
        &mut self,
        planned: &Planned,
        step: &TrainingStep,
        (solved, key): (&Solved, &impl Serialize),
        feed: &mut dyn FnMut(u64) -> Result<Vec<Tensor>>,
    ) -> Result<(Vec<Tensor>, DescentReport)> {
        let Planned { name, steps, batch, learning_rate, schedule, until } = planned;
        let key = || (self.key(solved), start_of(step, solved), steps, learning_rate, schedule, fingerprint(key));
        // All weights are hashed for it, which is for nothing where no checkpoints go anywhere.
        let checkpoints = match &self.run.settings.folder {
            Some(_) => self.run.checkpoints(name, *batch, &key())?,
            None => None,
        };
        let Descent { state, history, resumed, rollbacks } = if self.run.dry_run {
            let is_known = std::mem::replace(&mut self.is_start_known, false);
            checkpoints.as_ref().filter(|_| is_known).map(Checkpoints::found).transpose()?;
            let state = step.state.iter().map(|(_, start)| start.clone()).collect();
            Descent { state, history: History::default(), resumed: 0, rollbacks: Vec::new() }
        } else {
            self.run.make_folder()?;
            let rate = LearningRate::new(*learning_rate, schedule.clone());
            let course = FitOptions { steps: *steps, rate, checkpoints, until: *until };
            descend((step, self.context.engine), (name, course), feed, self.observer)?
        };
        let report = DescentReport {
            name: name.clone(),
            steps: if self.run.dry_run { 0 } else { history.steps() },
            planned_steps: *steps,
            batch: *batch,
            learning_rate: *learning_rate,
            step_bytes: peak_bytes(&step.graph),
            resumed_at: resumed,
            rollbacks,
            losses: history.terms(),
        };
        Ok((state, report))
    }

    /// Returns what all steps depend on beside the run: the plan and the inputs.
    fn key(&self, solved: &Solved) -> String {
        let CalibrationContext { input, norms, .. } = self.context;
        let shape = |id| self.float.value(id).shape.iter().flatten().map(ToString::to_string).collect::<Vec<_>>();
        let shapes: Vec<Vec<String>> = self.float.fed_inputs().into_iter().map(shape).collect();
        fingerprint(&(&solved.plan, (shapes, input, norms), self.images.counts(), self.images.beside(), &self.digest))
    }
}

/// Returns the digest of what a step starts from: its state, and the grids and integers that were found before.
fn start_of(step: &TrainingStep, solved: &Solved) -> String {
    let Solution { activations, weights, .. } = &solved.solution;
    let grids = activations.iter().chain(weights.iter().map(|weight| &weight.grid));
    let scales = fingerprint(&grids.map(|grid| &grid.scale).collect::<Vec<_>>());
    let state = step.state.iter().map(|(_, start)| &start.bytes()[..]);
    sha256(state.chain(weights.iter().map(|weight| &weight.bytes[..])).chain([scales.as_bytes()]))
}

/// Returns how many dead leaves there are to train on.
fn leaves(float: &Graph) -> usize {
    let bytes = |id| {
        let value = float.value(id);
        value.sample_len() * value.dtype.map_or(4, |dtype| dtype.bits().div_ceil(8))
    };
    let one: usize = float.fed_inputs().into_iter().map(bytes).sum();
    (POOL_BYTES / one.max(1)).clamp(FEWEST, LEAVES)
}
