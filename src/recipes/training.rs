//! What recipes that train have in common: a stage of steps on synthetic inputs, with checkpoints, and what becomes of
//! the solution.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::weights::fit_biases;
use super::{RangeSource, Solution, Solved, Teacher};
use crate::digest::{sha256, sha256_of_file};
use crate::error::{Error, Result};
use crate::expr::{Lowering, STANDARD};
use crate::ir::{Graph, Tensor};
use crate::onnx::{self, INLINE_LIMIT};
use crate::plan::Plan;
use crate::quant::{Grid, round_to_nearest};
use crate::train::{
    Checkpoints, Course, Descent, Identity, LearningRate, Pool, Schedule, Settings, Student, Trained, TrainingStep,
    descend, fingerprint, peak_bytes, read_out,
};

/// Bytes that the inputs of a stage may take.
const POOL_BYTES: usize = 256 << 20;
/// Time between two checkpoints.
const INTERVAL: Duration = Duration::from_secs(10);
/// Keeps the inputs of training apart from those of the checks.
const SEED: u64 = 0x6466_7174;

/// What training may draw on beside the solution that it starts from.
pub struct Training<'a> {
    /// The float network that is the teacher.
    pub float: &'a Graph,
    /// What is known of it.
    pub teacher: Teacher<'a>,
    /// What the user says.
    pub settings: &'a Settings,
    /// The file of the float model.
    pub model: &'a Path,
    /// Whether stages are prepared and no step is made.
    pub dry_run: bool,
    /// Hears how far a stage is.
    pub tell: &'a mut dyn FnMut(&str),
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
}

/// What a stage of training did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrainingReport {
    /// The stage.
    pub stage: &'static str,
    /// Steps.
    pub steps: u64,
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
        let Some(folder) = self.settings.save_graphs.as_ref().filter(|_| !self.dry_run) else { return Ok(()) };
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
        let Stage { name, steps, batch, learning_rate, ref schedule, .. } = *stage;
        let (samples, checkpoints) = (self.samples(stage), self.checkpoints(stage, solved)?);
        let Descent { state, losses, resumed } = if self.dry_run {
            checkpoints.as_ref().map(Checkpoints::found).transpose()?;
            let state = step.state.iter().map(|(_, start)| start.clone()).collect();
            Descent { state, losses: Vec::new(), resumed: 0 }
        } else {
            if let Some(folder) = &self.settings.folder {
                std::fs::create_dir_all(&folder.path).map_err(Error::write(&folder.path))?;
            }
            let Teacher { input, seed, threads, engine, .. } = self.teacher;
            let course = Course { steps, rate: LearningRate::new(learning_rate, schedule.clone()), checkpoints };
            // Made once a checkpoint was found to be of this run.
            let mut pool = None;
            let mut feed = |number| {
                if pool.is_none() {
                    let inputs = input.synthetic(self.float, samples, seed ^ SEED, threads)?;
                    pool = Some(Pool::new(inputs, batch, seed, 0)?);
                }
                pool.as_ref().map_or(Ok(Vec::new()), |pool| pool.batch(number))
            };
            let mut tell = |done: u64, losses: &[f32]| {
                let loss = losses.last().copied().unwrap_or(f32::NAN);
                (self.tell)(&format!("{name}: step {done} of {steps}, loss {loss:.4}"));
            };
            descend((step, engine), course, &mut feed, &mut tell)?
        };
        let vectors = [state[step.place("weights")?].clone(), state[step.place("scales")?].clone()];
        let report = TrainingReport {
            stage: name,
            steps,
            batch,
            samples,
            learning_rate,
            step_bytes: peak_bytes(&step.graph),
            resumed_at: resumed,
            blocked: Vec::new(),
            losses,
        };
        Ok((vectors, report))
    }

    fn samples(&self, stage: &Stage) -> usize {
        let bytes = |id| {
            let value = self.float.value(id);
            value.sample_len() * value.dtype.map_or(4, |dtype| dtype.bits().div_ceil(8))
        };
        let one: usize = self.float.fed_inputs().into_iter().map(bytes).sum();
        (POOL_BYTES / one.max(1)).clamp(stage.batch, stage.samples.max(stage.batch))
    }

    /// Returns where checkpoints go, once it is clear that nobody else's lie there.
    fn checkpoints(&self, stage: &Stage, solved: &Solved) -> Result<Option<Checkpoints>> {
        let Some(folder) = &self.settings.folder else { return Ok(None) };
        let Stage { steps, batch, samples, learning_rate, ref schedule, .. } = *stage;
        let Teacher { input, norms, seed, engine, .. } = self.teacher;
        let shape = |id| self.float.value(id).shape.iter().flatten().map(ToString::to_string).collect::<Vec<_>>();
        let shapes: Vec<Vec<String>> = self.float.fed_inputs().into_iter().map(shape).collect();
        let fed = (shapes, input, norms);
        // Another engine or version adds up in another order: other bytes.
        let runs = (env!("CARGO_PKG_VERSION"), engine.name(), engine.lowering().block());
        let settings = fingerprint(&(&solved.plan, steps, samples, learning_rate, schedule, fed, runs));
        let run = Identity {
            stage: stage.name.to_owned(),
            seed,
            model: model_sha256(self.model)?,
            // The batch may be what memory allows, and has to be given where that differs.
            settings: format!("b{batch}:{settings}"),
        };
        let path = folder.path.join(format!("{}.safetensors", stage.name));
        if !folder.resume && path.exists() {
            let message =
                format!("{} holds a run already; --resume {} goes on with it", path.display(), folder.path.display());
            return Err(Error::Usage(message + ", or name another folder"));
        }
        Ok(Some(Checkpoints { path, run, resume: folder.resume, interval: INTERVAL }))
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

/// Returns the sha256 of a model's file, or that of those of all of its files.
fn model_sha256(model: &Path) -> Result<String> {
    let mut digests = Vec::new();
    for path in onnx::files_of(model)? {
        digests.push(sha256_of_file(&path).map_err(Error::read(&path))?);
    }
    Ok(match digests.as_slice() {
        [only] => only.clone(),
        several => sha256(several.iter().map(String::as_bytes)),
    })
}
