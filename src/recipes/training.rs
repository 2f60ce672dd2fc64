//! What recipes that train have in common: a stage of steps on synthetic inputs, with checkpoints, and what becomes of
//! the solution.

use serde::Serialize;

use super::weights::fit_biases;
use super::{HeldOut, RangeSource, Solution, Solved, Teacher};
use crate::digest::sha256;
use crate::error::{Error, Result};
use crate::expr::{Lowering, STANDARD};
use crate::ir::{Graph, Tensor};
use crate::observe::Observer;
use crate::onnx::{self, INLINE_LIMIT};
use crate::plan::Plan;
use crate::quant::{Grid, round_to_nearest};
use crate::train::{
    Checkpoints, Course, Descent, History, LearningRate, Pool, Rollback, Run, Schedule, Student, Trained, TrainingStep,
    descend, fingerprint, peak_bytes, read_out,
};

/// Bytes that the inputs of a stage may take.
const POOL_BYTES: usize = 256 << 20;
/// Keeps the inputs of training apart from those of the checks.
const SEED: u64 = 0x6466_7174;

/// What training may draw on beside the solution that it starts from.
pub struct Training<'a> {
    /// The float network that is the teacher.
    pub float: &'a Graph,
    /// What is known of it.
    pub teacher: Teacher<'a>,
    /// Inputs to train on that were made for the network, one tensor for each input; dead leaves where there are none.
    pub images: Option<Vec<Tensor>>,
    /// The run.
    pub run: Run<'a>,
    /// Hears how far a stage is.
    pub observer: &'a mut dyn Observer,
}

/// A stage of training.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Its name, that of its checkpoint too.
    pub name: &'static str,
    /// Steps.
    pub steps: u64,
    /// Samples of a step.
    pub batch: usize,
    /// Synthetic inputs that batches are picked from, as far as memory reaches.
    pub samples: usize,
    /// The initial learning rate; see [`Student`] for its unit.
    pub learning_rate: f64,
    /// How it moves.
    pub schedule: Schedule,
    /// Whether images are varied whenever they are dealt out.
    pub varies: bool,
}

/// What a stage of training did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrainingReport {
    /// The stage.
    pub stage: &'static str,
    /// Steps that were done.
    pub steps: u64,
    /// Steps that were planned; more where time was up.
    pub planned_steps: u64,
    /// Samples of a step.
    pub batch: usize,
    /// Synthetic inputs that batches were picked from.
    pub samples: usize,
    /// The initial learning rate.
    pub learning_rate: f64,
    /// Bytes that the tensors of a step take.
    pub step_bytes: usize,
    /// The step at which a checkpoint was taken up, 0 for a run in one piece.
    pub resumed_at: u64,
    /// Operators that no gradient passes: what they read was trained for, and layers behind them stay as they were.
    pub blocked: Vec<String>,
    /// Where steps were taken back because the loss diverged.
    pub rollbacks: Vec<Rollback>,
    /// How the student did on images that were held out, where any were.
    pub held_out: Option<HeldOut>,
    /// The loss of every step: how far the student is from the float network, 0 for equal.
    pub losses: Vec<f32>,
}

impl Training<'_> {
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

    /// Makes all steps of a stage of `solved`.
    ///
    /// # Errors
    /// When inputs cannot be made, a file cannot be written, a checkpoint is of another run, or the engine fails.
    pub fn descend(
        &mut self,
        stage: &Stage,
        step: &TrainingStep,
        solved: &Solved,
    ) -> Result<([Tensor; 2], TrainingReport)> {
        let Stage { name, steps, batch, learning_rate, ref schedule, varies, .. } = *stage;
        let samples = self.samples(stage);
        let checkpoints = self.run.checkpoints(name, batch, &self.key(stage, solved))?;
        let Descent { state, history, resumed, rollbacks } = if self.run.dry_run {
            checkpoints.as_ref().map(Checkpoints::found).transpose()?;
            let state = step.state.iter().map(|(_, start)| start.clone()).collect();
            Descent { state, history: History::default(), resumed: 0, rollbacks: Vec::new() }
        } else {
            self.run.make_folder()?;
            let Teacher { input, seed, threads, engine, .. } = self.teacher;
            let (rate, until) = (LearningRate::new(learning_rate, schedule.clone()), self.run.settings.deadline);
            let course = Course { steps, rate, checkpoints, until };
            let (float, images) = (self.float, self.images.clone());
            // Made once a checkpoint was found to be of this run.
            let mut pool = None;
            let mut feed = |number| {
                if pool.is_none() {
                    let inputs = match &images {
                        Some(images) => images.clone(),
                        None => input.synthetic(float, samples, seed ^ SEED, threads)?,
                    };
                    let plain = Pool::new(inputs, batch, seed, 0)?;
                    pool = Some(if varies { plain.varied() } else { plain });
                }
                pool.as_ref().map_or(Ok(Vec::new()), |pool| pool.batch(number))
            };
            descend((step, engine), (name, course), &mut feed, self.observer)?
        };
        let vectors = [state[step.place("weights")?].clone(), state[step.place("scales")?].clone()];
        let report = TrainingReport {
            stage: name,
            steps: if self.run.dry_run { 0 } else { history.steps() },
            planned_steps: steps,
            batch,
            samples,
            learning_rate,
            step_bytes: peak_bytes(&step.graph),
            resumed_at: resumed,
            blocked: Vec::new(),
            held_out: None,
            rollbacks,
            losses: history.loss(),
        };
        Ok((vectors, report))
    }

    fn samples(&self, stage: &Stage) -> usize {
        if let Some(images) = &self.images {
            return images.first().and_then(|t| t.shape().first()).copied().unwrap_or(0);
        }
        let bytes = |id| {
            let value = self.float.value(id);
            value.sample_len() * value.dtype.map_or(4, |dtype| dtype.bits().div_ceil(8))
        };
        let one: usize = self.float.fed_inputs().into_iter().map(bytes).sum();
        (POOL_BYTES / one.max(1)).clamp(stage.batch, stage.samples.max(stage.batch))
    }

    /// Returns all that the steps of a stage depend on beside the run.
    fn key(&self, stage: &Stage, solved: &Solved) -> String {
        let Stage { steps, samples, learning_rate, ref schedule, .. } = *stage;
        let Teacher { input, norms, .. } = self.teacher;
        let shape = |id| self.float.value(id).shape.iter().flatten().map(ToString::to_string).collect::<Vec<_>>();
        let shapes: Vec<Vec<String>> = self.float.fed_inputs().into_iter().map(shape).collect();
        let images = self.images.as_ref().map(|images| sha256(images.iter().map(|tensor| &tensor.bytes()[..])));
        fingerprint(&(&solved.plan, steps, samples, learning_rate, schedule, (shapes, input, norms), images))
    }

    /// Puts what was trained of `student` into the solution.
    ///
    /// # Errors
    /// When the engine fails, or a step is no positive number any more.
    pub fn settle(&self, solved: &mut Solved, student: &Student, vectors: &[Tensor; 2]) -> Result<()> {
        let Trained { activations, weights, biases } = read_out(student, self.teacher.engine, vectors)?;
        let Solved { student: float, plan, solution } = solved;
        for layer in &plan.layers {
            let Some(bias) = float.maker(&layer.output).and_then(|node| node.input(2)) else { continue };
            let Some((_, trained)) = biases.iter().find(|(name, _)| name == float.name_of(bias)) else { continue };
            if let (Some(before), Some(correction)) =
                (float.constant_of(bias), solution.corrections.get_mut(&layer.output))
            {
                // A layer that is left float takes back what training did too.
                let pairs = before.to_f32()?.into_iter().zip(trained.to_f32()?);
                correction.iter_mut().zip(pairs).for_each(|(c, (before, now))| *c += before - now);
            }
        }
        for (name, trained) in biases {
            if let Some(bias) = float.find(&name) {
                float.value_mut(bias).constant = Some(trained);
            }
        }
        solution.activations = activations;
        solution.weights = weights;
        solution.sources.fill(RangeSource::Trained);
        refit_biases(float, plan, solution)
    }
}

/// Enlarges scales of weights whose bias left int32 as the scale of the input went down.
fn refit_biases(student: &Graph, plan: &Plan, solution: &mut Solution) -> Result<()> {
    for (index, weight) in solution.weights.iter_mut().enumerate() {
        let scale = fit_biases(student, plan, index, &solution.activations, &weight.grid.scale)?;
        let changed = scale.iter().zip(&weight.grid.scale).filter(|(new, old)| new != old).count();
        if changed > 0 {
            let grid = Grid { scale, ..weight.grid.clone() };
            *weight = round_to_nearest(grid, &weight.shape, &weight.dequantize());
            let name = &plan.weights[index].tensor;
            solution.enlarged.retain(|(enlarged, _)| enlarged != name);
            solution.enlarged.push((name.clone(), changed));
        }
    }
    Ok(())
}
