//! Stages of training: what a recipe does, one after the other, with what it found. One stage = one file.
//!
//! Every stage is judged on images that it did not see: what it made is kept only where the student is nearer to the float
//! network than before.

mod adversarial;
mod distil;
mod held_out;
mod reconstruct;
mod whole;

use serde::Serialize;

pub use held_out::{HeldOut, OtherKind};

use held_out::Measured;

use super::training::{DescentReport, Training};
use super::{Effort, Solved};
use crate::error::{Error, Result};
use crate::ir::Graph;
use crate::train::{Block, Student, blocks, targets};

/// A stage of training.
pub struct Stage {
    /// Its name on the command line and in reports.
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    run: fn(&Effort, &mut Solved, &mut Training) -> Result<StageReport>,
}

/// Every stage, in the order in which they make sense.
pub const STAGES: &[&Stage] = &[&RECONSTRUCT, &DISTIL, &ADVERSARIAL];

/// [`reconstruct`].
pub const RECONSTRUCT: Stage = Stage {
    name: "reconstruct",
    summary: "block by block, which way weights are rounded and the steps of quantizers (AdaRound, LSQ, QDrop)",
    run: reconstruct::reconstruct,
};

/// [`distil`].
pub const DISTIL: Stage = Stage {
    name: "distil",
    summary: "weights, biases and steps of the whole network by the float one's answers",
    run: distil::distil,
};

/// [`adversarial`].
pub const ADVERSARIAL: Stage = Stage {
    name: "adversarial",
    summary: "the same against a generator that looks for images on which both answer differently (Choi et al. 2020)",
    run: adversarial::adversarial,
};

/// What a stage did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StageReport {
    /// [`Stage::name`].
    pub stage: &'static str,
    /// Inputs that it was trained on.
    pub samples: usize,
    /// Dead leaves beside them.
    pub leaves: usize,
    /// Operators that no gradient passes: what they read was trained for, and layers behind them stay as they were.
    pub blocked: Vec<String>,
    /// What was trained at a time: the whole network, or each block.
    pub descents: Vec<DescentReport>,
    /// How the student did on images that were held out; none in a dry run.
    pub held_out: Option<HeldOut>,
}

impl StageReport {
    /// Returns the report of a stage that trained nothing yet, on the first `samples` inputs.
    fn new(stage: &'static str, samples: usize, training: &Training) -> Self {
        let leaves = training.leaves_among(samples);
        Self { stage, samples: samples - leaves, leaves, blocked: Vec::new(), descents: Vec::new(), held_out: None }
    }

    /// Returns how many steps of all descents were done, and how many were to be.
    pub fn steps(&self) -> [u64; 2] {
        let descents = || self.descents.iter();
        [descents().map(|descent| descent.steps).sum(), descents().map(|descent| descent.planned_steps).sum()]
    }
}

/// Returns the stages called `names`.
///
/// # Errors
/// [`Error::Usage`] listing those that exist, or for one that is named twice.
pub fn find_stages(names: &[String]) -> Result<Vec<&'static Stage>> {
    let find = |name: &String| {
        STAGES.iter().copied().find(|stage| stage.name == name).ok_or_else(|| {
            let known: Vec<&str> = STAGES.iter().map(|stage| stage.name).collect();
            Error::Usage(format!("there is no stage \"{name}\"; known: {}", known.join(", ")))
        })
    };
    if let Some((_, twice)) = names.iter().enumerate().find(|(place, name)| names[..*place].contains(name)) {
        return Err(Error::Usage(format!("--stages: \"{twice}\" is named twice; give it more --steps")));
    }
    names.iter().map(find).collect()
}

/// Returns the blocks of a student of the float network.
fn blocks_of(float: &Graph, student: &Student) -> Vec<Block> {
    let target = targets(float).tensors.into_iter().next().and_then(|target| student.graph().find(&target.tensor));
    target.map_or(Vec::new(), |target| blocks(student.graph(), target))
}

/// Returns how what was trained compares with another start, on inputs that training did not see.
///
/// # Errors
/// When the engine fails.
pub fn against(start: &Solved, trained: &Solved, training: &Training) -> Result<HeldOut> {
    Ok(HeldOut::compare(&Measured::of(start, training)?, &Measured::of(trained, training)?))
}

/// Runs `stages` one after the other and keeps what each made where it did good.
///
/// # Errors
/// When a stage fails.
pub fn train(
    (stages, effort): (&[&Stage], &Effort),
    solved: &mut Solved,
    training: &mut Training,
) -> Result<Vec<StageReport>> {
    let mut reports = Vec::with_capacity(stages.len());
    // How the student does that the next stage starts from.
    let mut measured = None;
    for (number, stage) in stages.iter().enumerate() {
        let before = solved.clone();
        training.begin(stages.len() - number);
        let mut report = (stage.run)(effort, solved, training)?;
        if !training.run.dry_run && !report.descents.is_empty() {
            let was = measured.take().map_or_else(|| Measured::of(&before, training), Ok)?;
            let is = Measured::of(solved, training)?;
            let found = HeldOut::compare(&was, &is);
            measured = Some(if found.is_kept { is } else { was });
            if !found.is_kept {
                *solved = before;
            }
            report.held_out = Some(found);
        }
        reports.push(report);
    }
    Ok(reports)
}
