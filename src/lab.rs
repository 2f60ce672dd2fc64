//! The tools of training recipes: the float network as teacher, students and generators; training and held-out inputs;
//! and games between them, with seeds, deadlines, checkpoints and reports.

mod batches;
mod disagreement;
mod game;
mod generator;
mod images;
mod student;
mod teacher;

pub use batches::TrainingBatches;
pub use game::{GamePlan, PreparedGame};
pub use generator::{ConvGenerator, GeneratedImages, LatentMixer};
pub use images::Images;
pub use student::{QuantizedStudent, StudentOutputs};
pub use teacher::{Teacher, TeacherOutputs};

use std::cell::OnceCell;
use std::rc::Rc;
use std::time::Instant;

use crate::calibrate::CalibrationContext;
use crate::data::image_channels;
use crate::digest::sha256;
use crate::error::{Error, Result};
use crate::ir::{Graph, Tensor};
use crate::observe::Observer;
use crate::onnx::Draft;
use crate::solution::Solved;
use crate::synthesis::TrainedGenerator;
use crate::train::{Run, STEP_GRAPH, StageReport, TrainingStep, fingerprint, share_of};
use images::Leaves;

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
/// The inputs, settings and results of training beside the solution that it starts from.
pub struct Lab<'a> {
    /// The float network used as teacher.
    pub float: &'a Graph,
    /// The calibration context.
    pub context: CalibrationContext<'a>,
    /// The run.
    pub run: Run<'a>,
    /// Receives the progress of stages.
    pub observer: &'a mut dyn Observer,
    /// The generator for adversarial training, where images were synthesized for the network.
    pub trained_generator: Option<TrainedGenerator>,
    images: Rc<Images>,
    /// The digest of the synthetic images.
    digest: Option<String>,
    /// The end of the current stage.
    until: Option<Instant>,
    /// Made on first use.
    teacher: OnceCell<Rc<Teacher>>,
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

/// The training images of a student, and the generator that made them.
#[derive(Clone, Debug, Default)]
pub struct LabInputs {
    /// Images or other inputs; dead leaves alone without any.
    pub images: Option<Supply>,
    /// The generator that synthesized the images.
    pub trained_generator: Option<TrainedGenerator>,
}

impl<'a> Lab<'a> {
    /// Returns the training of a student of `float` on images (or other inputs) and dead leaves beside them, else on
    /// dead leaves alone. One input in eight is held out to judge the stages.
    pub fn new(
        float: &'a Graph,
        context: CalibrationContext<'a>,
        inputs: LabInputs,
        run: Run<'a>,
        observer: &'a mut dyn Observer,
    ) -> Self {
        let LabInputs { images, trained_generator } = inputs;
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
        Self {
            float,
            context,
            run,
            observer,
            trained_generator,
            images,
            digest,
            until: None,
            teacher: OnceCell::new(),
            is_start_known,
        }
    }

    /// Begins the next of the `stages` remaining stages and gives it its share of the time.
    pub fn begin(&mut self, stages: usize) {
        self.until = share_of(self.run.settings.deadline, stages);
    }

    /// Returns the end of the first of `parts` remaining parts of the stage.
    pub fn until(&self, parts: usize) -> Option<Instant> {
        share_of(self.until, parts)
    }

    /// Returns the number of steps: the user's, else `usual`.
    pub fn steps(&self, usual: u64) -> u64 {
        self.run.settings.steps.unwrap_or(usual)
    }

    /// Returns the learning rate: the user's, else `usual`.
    pub fn learning_rate(&self, usual: f64) -> f64 {
        self.run.settings.learning_rate.unwrap_or(usual)
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
    pub fn report(&self, stage: &'static str, samples: usize) -> StageReport {
        let leaves = self.leaves_among(samples);
        StageReport { stage, samples: samples - leaves, leaves, ..StageReport::default() }
    }

    /// Writes the graph of a step to the user's folder for step graphs, if any. It shall have standard operators only,
    /// whatever the engine runs, so that other programs can open it.
    ///
    /// # Errors
    /// When the graph cannot be built or written.
    pub fn save_graph(&self, stage: &str, step: impl FnOnce() -> Result<TrainingStep>) -> Result<()> {
        let Some(folder) = self.run.settings.save_graphs.as_ref().filter(|_| !self.run.dry_run) else { return Ok(()) };
        std::fs::create_dir_all(folder).map_err(Error::write(folder))?;
        let path = folder.join(format!("{stage}{STEP_GRAPH}"));
        Draft::write(&step()?.graph, &path, false)?.publish(&path)?;
        Ok(())
    }

    /// Returns the fingerprint of everything the steps depend on besides the run: the plan and the inputs.
    fn key(&self, solved: &Solved) -> String {
        let CalibrationContext { input, norms, .. } = self.context;
        let shape = |id| self.float.value(id).shape.iter().flatten().map(ToString::to_string).collect::<Vec<_>>();
        let shapes: Vec<Vec<String>> = self.float.fed_inputs().into_iter().map(shape).collect();
        fingerprint(&(&solved.plan, (shapes, input, norms), self.images.counts(), self.images.beside(), &self.digest))
    }
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
