//! The loop over steps: rates, losses, checkpoints.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::{About, Checkpoint, Identity, LearningRate, TrainingStep};
use crate::error::{Error, Result};
use crate::ir::Tensor;
use crate::runtime::{Engine, SessionOptions, StepSession};

/// The name of the losses of all steps in a checkpoint.
const HISTORY: &str = "history";
/// The name of a schedule's state in a checkpoint.
const SCHEDULE: &str = "schedule";

/// How long a descent is and how fast it goes.
#[derive(Clone, Debug)]
pub struct Course {
    /// Steps in all.
    pub steps: u64,
    /// Learning rates.
    pub rate: LearningRate,
    /// Where it can be taken up again.
    pub checkpoints: Option<Checkpoints>,
}

/// The file of a descent.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    /// The file.
    pub path: PathBuf,
    /// The run that it belongs to.
    pub run: Identity,
    /// Whether to go on from what the file holds; without one, from the beginning.
    pub resume: bool,
    /// Time between two checkpoints at least. The first is written as soon as losses are read, so that a folder that takes
    /// none is found out early.
    pub interval: Duration,
}

impl Checkpoints {
    /// Returns what there is to go on from.
    ///
    /// # Errors
    /// When it is damaged or of another run.
    pub fn found(&self) -> Result<Option<Checkpoint>> {
        if !self.resume || !self.path.exists() {
            return Ok(None);
        }
        let found = Checkpoint::read(&self.path)?;
        found.check(&self.path, &self.run)?;
        Ok(Some(found))
    }
}

/// What a descent came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Descent {
    /// The state behind the last step, in the order of [`TrainingStep::state`].
    pub state: Vec<Tensor>,
    /// The loss of every step.
    pub losses: Vec<f32>,
    /// The step that it was taken up at.
    pub resumed: u64,
}

/// Makes all steps of `course` by `engine`; `feed` gives what each is fed before the rates, and `tell` hears of the steps
/// that are done and the losses of all of them.
///
/// # Errors
/// When the engine fails; a checkpoint that is damaged or of another run; [`Error::Runtime`] when the loss is no number
/// any more.
pub fn descend(
    (step, engine): (&TrainingStep, &dyn Engine),
    mut course: Course,
    feed: &mut dyn FnMut(u64) -> Result<Vec<Tensor>>,
    tell: &mut dyn FnMut(u64, &[f32]),
) -> Result<Descent> {
    let mut state: Vec<Tensor> = step.state.iter().map(|(_, start)| start.clone()).collect();
    let (mut losses, mut done) = (Vec::new(), 0);
    if let Some(found) = course.checkpoints.as_ref().map(Checkpoints::found).transpose()?.flatten() {
        (state, losses, done) = restore(step, &mut course, found)?;
    }
    let resumed = done;
    let mut session =
        engine.load_steps(&step.graph, &state, &SessionOptions { prepacking: true, ..SessionOptions::default() })?;
    let mut written: Option<Instant> = None;
    while done < course.steps {
        let mut feeds = feed(done)?;
        feeds.push(step.optimiser.rates(course.rate.at(done), done));
        session.step(&feeds)?;
        done += 1;
        if !done.is_multiple_of(step.losses as u64) && done < course.steps {
            continue;
        }
        let new = newest(step, session.as_ref(), done - losses.len() as u64)?;
        if let Some(place) = new.iter().position(|loss| !loss.is_finite()) {
            let message =
                format!("the loss became {} in step {}; lower the learning rate", new[place], losses.len() + place);
            return Err(Error::runtime("training", message));
        }
        course.rate.tell(mean(&new));
        losses.extend(new);
        tell(done, &losses);
        let is_due = |c: &&Checkpoints| written.is_none_or(|last| last.elapsed() >= c.interval) || done == course.steps;
        if let Some(checkpoints) = course.checkpoints.as_ref().filter(is_due) {
            write(checkpoints, step, session.as_ref(), (&course.rate, &losses))?;
            written = Some(Instant::now());
        }
    }
    let state = (0..step.state.len()).map(|index| session.read(index)).collect::<Result<_>>()?;
    Ok(Descent { state, losses, resumed })
}

/// Returns the last `count` losses.
fn newest(step: &TrainingStep, session: &dyn StepSession, count: u64) -> Result<Vec<f32>> {
    let ring = session.read(step.place_of_losses())?.to_f32()?;
    let count = usize::try_from(count).unwrap_or(usize::MAX).min(ring.len());
    Ok(ring[ring.len() - count..].to_vec())
}

#[allow(clippy::cast_precision_loss)]
fn mean(losses: &[f32]) -> f32 {
    losses.iter().sum::<f32>() / losses.len().max(1) as f32
}

fn write(
    checkpoints: &Checkpoints,
    step: &TrainingStep,
    session: &dyn StepSession,
    (rate, losses): (&LearningRate, &[f32]),
) -> Result<()> {
    let mut about = About::new(checkpoints.run.clone(), losses.len() as u64);
    let schedule = serde_json::to_string(&rate.state()).map_err(|e| Error::malformed("schedule", e.to_string()))?;
    about.notes.insert(SCHEDULE.to_owned(), schedule);
    let mut tensors = BTreeMap::from([(HISTORY.to_owned(), Tensor::from_f32(&[losses.len()], losses))]);
    for (index, (name, _)) in step.state.iter().enumerate() {
        tensors.insert(name.clone(), session.read(index)?);
    }
    Checkpoint { tensors, about }.write(&checkpoints.path)
}

/// Returns state, losses and number of steps of a checkpoint, and sets the schedule.
fn restore(step: &TrainingStep, course: &mut Course, found: Checkpoint) -> Result<(Vec<Tensor>, Vec<f32>, u64)> {
    let Checkpoint { mut tensors, about } = found;
    let missing = |what: &str| Error::malformed("checkpoint", format!("holds no \"{what}\"; start anew"));
    let mut take = |name: &str| tensors.remove(name).ok_or_else(|| missing(name));
    let state = step.state.iter().map(|(name, _)| take(name)).collect::<Result<_>>()?;
    let losses = take(HISTORY)?.to_f32()?;
    let schedule = about.notes.get(SCHEDULE).and_then(|text| serde_json::from_str(text).ok());
    course.rate = course.rate.clone().resumed(schedule.ok_or_else(|| missing(SCHEDULE))?);
    Ok((state, losses, about.steps))
}
