//! The results of training, for reports.

use serde::Serialize;

use super::Rollback;

/// The report of a stage.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct StageReport {
    /// The name on the command line.
    pub stage: &'static str,
    /// The number of training inputs.
    pub samples: usize,
    /// The number of dead-leaves images beside them.
    pub leaves: usize,
    /// Operators without gradient: their inputs are training targets, and layers behind them keep their weights.
    pub blocked: Vec<String>,
    /// One report per descent: of the whole network, or of each block.
    pub descents: Vec<DescentReport>,
    /// The results on held-out images; none in a dry run.
    pub held_out: Option<HeldOut>,
}

impl StageReport {
    /// Returns the completed and the planned steps of all descents.
    pub fn steps(&self) -> [u64; 2] {
        let descents = || self.descents.iter();
        [descents().map(|descent| descent.steps).sum(), descents().map(|descent| descent.planned_steps).sum()]
    }
}

/// The report of a descent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DescentReport {
    /// The name.
    pub name: String,
    /// Completed steps.
    pub steps: u64,
    /// Planned steps; more than completed where the deadline passed.
    pub planned_steps: u64,
    /// Samples per step.
    pub batch: usize,
    /// The initial learning rate.
    pub learning_rate: f64,
    /// Bytes of the tensors of a step.
    pub step_bytes: usize,
    /// The step at which a checkpoint was resumed, 0 for an uninterrupted descent.
    pub resumed_at: u64,
    /// Rollbacks after the loss diverged.
    pub rollbacks: Vec<Rollback>,
    /// The loss of every step and its terms, by name.
    pub losses: Vec<(String, Vec<f32>)>,
    /// The disagreement of several students at the end; none for one student, and in a dry run.
    pub disagreement: Option<Disagreement>,
}

/// The disagreement of the students of a game on held-out inputs: means over pairs of students.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Disagreement {
    /// The number of students.
    pub students: usize,
    /// The number of inputs.
    pub images: usize,
    /// The fraction of inputs on which two students predict different classes; none without logits.
    pub top1: Option<f64>,
    /// The distance of two students' outputs relative to the mean of their norms, `2 ‖a - b‖ / (‖a‖ + ‖b‖)`, averaged
    /// over inputs: 0 for equal outputs, 2 at most.
    pub distance: f64,
}

/// A student on held-out inputs, before and after a stage. None of the figures is accuracy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HeldOut {
    /// The number of inputs, all augmentations counted.
    pub images: usize,
    /// The distance between the student and the float network, before and after; 0 when equal.
    pub distance: [f32; 2],
    /// The fraction of inputs that student and float network classify alike, before and after; none without
    /// logits.
    pub agreement: Option<[f32; 2]>,
    /// The last features on images of other kinds; none where the network has no image input.
    pub other_kinds: Vec<OtherKind>,
    /// Whether the result of the stage was kept.
    pub is_kept: bool,
}

/// The last layer's input on images of another kind than the training images.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OtherKind {
    /// The kind.
    pub kind: &'static str,
    /// Centered SQNR against the float network in dB, before and after.
    pub sqnr_db: [f64; 2],
}

impl HeldOut {
    /// Returns why the result of the stage was not kept; none where it was.
    pub fn refused(&self) -> Option<&'static str> {
        match (self.is_kept, self.distance[1] < self.distance[0]) {
            (true, _) => None,
            (false, true) => Some("farther from the float network on images of other kinds"),
            (false, false) => Some("no nearer than what it started from"),
        }
    }
}
