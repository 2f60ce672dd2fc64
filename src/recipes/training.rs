//! The common part of training stages: training and held-out inputs, deadlines, and descents with checkpoints.

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
use crate::onnx::Draft;
use crate::solution::{Solution, Solved};
use crate::synthesis::TrainedGenerator;
use crate::train::{
    BatchSampler, Checkpoints, Descent, DescentReport, FitOptions, History, LearningRate, Run, STEP_GRAPH, Schedule,
    StageReport, TrainingStep, descend, fingerprint, peak_bytes, share_of,
};

/// The most bytes for the inputs of a stage.
const POOL_BYTES: usize = 256 << 20;
/// The number of inputs without synthetic images, within the memory limit, and the least number.
const LEAVES: usize = 1024;
const FEWEST: usize = 96;
/// Dead leaves per synthetic image, within the memory limit: few images suffice beside many that share only edges and
/// colors with real ones.
const LEAVES_FOR_EACH: usize = 2;
/// One input in this many is held out.
const HELD_OUT: usize = 8;
/// The inputs and settings of training beside the solution that it starts from.
pub struct Training<'a> {
    /// The float network used as teacher.
    pub float: &'a Graph,
    /// The calibration context.
    pub context: CalibrationContext<'a>,
    /// The run.
    pub run: Run<'a>,
    /// Receives the progress of stages.
    pub observer: &'a mut dyn Observer,
    /// The generator for adversarial training, where images were synthesized for the network.
    pub(super) trained_generator: Option<TrainedGenerator>,
    images: Rc<Images>,
    /// The digest of the synthetic images.
    digest: Option<String>,
    /// The end of the current stage.
    until: Option<Instant>,
    /// Whether the next descent starts from the same values as in a real run.
    is_start_known: bool,
}

/// The training images of a student.
#[derive(Clone, Debug)]
pub enum Supply {
    /// Synthesized or handed over: one tensor per network input.
    Ready(Vec<Tensor>),
    /// Only their number, in a dry run.
    Planned(usize),
}

/// A planned descent.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Its name and that of its checkpoint.
    pub name: String,
    /// The number of steps.
    pub steps: u64,
    /// Samples per step.
    pub batch: usize,
    /// The initial learning rate; see [`Student`](crate::train::Student) for its unit.
    pub learning_rate: f64,
    /// The learning-rate schedule.
    pub schedule: Schedule,
    /// The time at which it ends early.
    pub until: Option<Instant>,
}

impl<'a> Training<'a> {
    /// Returns the training of a student of `float` on `images` (or other inputs) and dead leaves beside them, else on
    /// dead leaves alone. One input in eight is held out to judge the stages.
    pub fn new(
        (float, context): (&'a Graph, CalibrationContext<'a>),
        (images, trained_generator): (Option<Supply>, Option<TrainedGenerator>),
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
        Self { float, context, run, observer, trained_generator, images, digest, until: None, is_start_known }
    }

    /// Begins the next of the `stages` remaining stages and gives it its share of the time.
    pub(super) fn begin(&mut self, stages: usize) {
        self.until = share_of(self.run.settings.deadline, stages);
    }

    /// Returns the end of the first of `parts` remaining parts of the stage.
    pub(super) fn until(&self, parts: usize) -> Option<Instant> {
        share_of(self.until, parts)
    }

    /// Returns the training and held-out inputs.
    pub fn images(&self) -> Rc<Images> {
        Rc::clone(&self.images)
    }

    /// Returns the number of training inputs, dead leaves included.
    pub fn samples(&self) -> usize {
        self.images.counts()[0] + self.images.beside()[0]
    }

    /// Returns the number of dead leaves among the first `samples` training inputs.
    pub fn leaves_among(&self, samples: usize) -> usize {
        samples.saturating_sub(self.images.counts()[0])
    }

    /// Returns an empty report of a stage that trains on the first `samples` inputs.
    pub(super) fn report(&self, stage: &'static str, samples: usize) -> StageReport {
        let leaves = self.leaves_among(samples);
        StageReport { stage, samples: samples - leaves, leaves, ..StageReport::default() }
    }

    /// Checks that there are enough training inputs for a batch.
    ///
    /// # Errors
    /// [`Error::Usage`] for a larger batch, [`Error::Unsupported`] where the model fixes it.
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

    /// Returns batches of training inputs, augmented anew at each draw. `stage` separates the batches of stages.
    ///
    /// # Errors
    /// [`Error::Usage`] for a batch of more inputs than there are.
    pub(super) fn batches(&self, batch: usize, stage: u64) -> Result<impl FnMut(u64) -> Result<Vec<Tensor>> + use<>> {
        self.check_batch(batch)?;
        let (images, seed, mut pool) = (self.images(), self.context.seed, None);
        // Generated only after the checkpoint was found to belong to this run.
        Ok(move |number| {
            if pool.is_none() {
                pool = Some(BatchSampler::new(images.seen()?, batch, seed, stage)?.varied());
            }
            pool.as_ref().map_or(Ok(Vec::new()), |pool: &BatchSampler| pool.batch(number))
        })
    }

    /// Writes the graph of a step to the user's folder for step graphs, if any. It has standard operators only,
    /// whatever the engine runs, so that other programs can open it.
    ///
    /// # Errors
    /// When the graph cannot be built or written.
    pub fn save_graph(&self, stage: &str, step: impl FnOnce(&Lowering) -> Result<TrainingStep>) -> Result<()> {
        let Some(folder) = self.run.settings.save_graphs.as_ref().filter(|_| !self.run.dry_run) else { return Ok(()) };
        std::fs::create_dir_all(folder).map_err(Error::write(folder))?;
        let path = folder.join(format!("{stage}{STEP_GRAPH}"));
        Draft::write(&step(&STANDARD)?.graph, &path, false)?.publish(&path)?;
        Ok(())
    }

    /// Runs all steps of a descent that starts from `solved`. Besides the run, `solved` and the inputs, the steps
    /// depend on `key`. Returns the state, in the order of [`TrainingStep::state`]. A dry run makes no steps; it checks
    /// only the checkpoint of the first descent, since later ones start from results that it lacks.
    ///
    /// # Errors
    /// When inputs cannot be generated, a file cannot be written, a checkpoint belongs to another run, or the engine
    /// fails.
    pub(super) fn descend(
        &mut self,
        planned: &Planned,
        step: &TrainingStep,
        (solved, key): (&Solved, &impl Serialize),
        feed: &mut dyn FnMut(u64) -> Result<Vec<Tensor>>,
    ) -> Result<(Vec<Tensor>, DescentReport)> {
        let Planned { name, steps, batch, learning_rate, schedule, until } = planned;
        let key = || (self.key(solved), start_of(step, solved), steps, learning_rate, schedule, fingerprint(key));
        // Computing the key hashes all weights, so skip it without a checkpoint folder.
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

    /// Returns the fingerprint of everything the steps depend on besides the run: the plan and the inputs.
    fn key(&self, solved: &Solved) -> String {
        let CalibrationContext { input, norms, .. } = self.context;
        let shape = |id| self.float.value(id).shape.iter().flatten().map(ToString::to_string).collect::<Vec<_>>();
        let shapes: Vec<Vec<String>> = self.float.fed_inputs().into_iter().map(shape).collect();
        fingerprint(&(&solved.plan, (shapes, input, norms), self.images.counts(), self.images.beside(), &self.digest))
    }
}

/// Returns the digest of a step's starting point: its state, and the current grids and integers.
fn start_of(step: &TrainingStep, solved: &Solved) -> String {
    let Solution { activations, weights, .. } = &solved.solution;
    let grids = activations.iter().chain(weights.iter().map(|weight| &weight.grid));
    let scales = fingerprint(&grids.map(|grid| &grid.scale).collect::<Vec<_>>());
    let state = step.state.iter().map(|(_, start)| &start.bytes()[..]);
    sha256(state.chain(weights.iter().map(|weight| &weight.bytes[..])).chain([scales.as_bytes()]))
}

/// Returns the number of dead leaves for training.
fn leaves(float: &Graph) -> usize {
    let bytes = |id| {
        let value = float.value(id);
        value.sample_len() * value.dtype.map_or(4, |dtype| dtype.bits().div_ceil(8))
    };
    let one: usize = float.fed_inputs().into_iter().map(bytes).sum();
    (POOL_BYTES / one.max(1)).clamp(FEWEST, LEAVES)
}
