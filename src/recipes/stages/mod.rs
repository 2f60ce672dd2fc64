//! Training stages, which improve a recipe's result one after the other. One stage = one file.
//!
//! Every stage is judged on held-out images: its result is kept only where the student comes closer to the float
//! network.

mod adversarial;
mod distil;
mod held_out;
mod reconstruct;
mod whole;

use held_out::{Measured, compare};

use super::{TrainingBudget, choi2020, gdfq};
use crate::error::{Error, Result};
use crate::ir::Graph;
use crate::lab::Lab;
use crate::solution::Solved;
use crate::train::{Block, HeldOut, StageReport, Student, blocks, targets};

/// A stage's function: improves the given solution.
type Train = fn(&TrainingBudget, &mut Solved, &mut Lab) -> Result<StageReport>;

/// A training stage.
pub struct Stage {
    /// Its name on the command line and in reports.
    pub name: &'static str,
    /// A one-line summary.
    pub summary: &'static str,
    /// Whether `--generators` and `--students` apply.
    pub counts_players: bool,
    pub(super) run: Train,
}

impl Stage {
    /// Returns the stage of a recipe.
    pub(super) const fn of(name: &'static str, summary: &'static str, run: Train) -> Self {
        Self { name, summary, counts_players: false, run }
    }
}

/// Every stage, in a sensible order.
pub const STAGES: &[&Stage] = &[&RECONSTRUCT, &DISTIL, &ADVERSARIAL, &gdfq::STAGE, &choi2020::STAGE];

/// [`reconstruct`].
pub const RECONSTRUCT: Stage = Stage {
    name: "reconstruct",
    summary: "trains the rounding of weights and the scales of quantizers, block by block (AdaRound, LSQ, QDrop)",
    counts_players: false,
    run: reconstruct::reconstruct,
};

/// [`distil`].
pub const DISTIL: Stage = Stage {
    name: "distil",
    summary: "distills weights, biases and scales of the whole network from the float network",
    counts_players: false,
    run: distil::distil,
};

/// [`adversarial`].
pub const ADVERSARIAL: Stage = Stage {
    name: "adversarial",
    summary: "distills on images of a generator that maximizes the distance of both networks (Choi et al. 2020)",
    counts_players: false,
    run: adversarial::adversarial,
};

/// Returns the stages named `names`.
///
/// # Errors
/// [`Error::Usage`] listing the known stages, or for a stage that is named twice.
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

/// Returns the comparison of the trained result with another starting point, on held-out inputs.
///
/// # Errors
/// When the engine fails.
pub fn against(start: &Solved, trained: &Solved, lab: &Lab) -> Result<HeldOut> {
    Ok(compare(&Measured::of(start, lab)?, &Measured::of(trained, lab)?))
}

/// Runs `stages` one after the other and keeps the result of each where it improves on the one before.
///
/// # Errors
/// When a stage fails.
pub fn train(
    stages: &[&Stage],
    budget: &TrainingBudget,
    solved: &mut Solved,
    lab: &mut Lab,
) -> Result<Vec<StageReport>> {
    let mut reports = Vec::with_capacity(stages.len());
    // The measurements of the student that the next stage starts from.
    let mut measured = None;
    for (number, stage) in stages.iter().enumerate() {
        let before = solved.clone();
        lab.begin(stages.len() - number);
        let mut report = (stage.run)(budget, solved, lab)?;
        if !lab.run.dry_run && !report.descents.is_empty() {
            let was = measured.take().map_or_else(|| Measured::of(&before, lab), Ok)?;
            let is = Measured::of(solved, lab)?;
            let mut found = compare(&was, &is);
            found.is_kept |= lab.run.settings.keeps_all;
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
