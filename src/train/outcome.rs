//! What training came to, for reports.

use serde::Serialize;

use super::Rollback;

/// What a stage did.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct StageReport {
    /// The name on the command line.
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
    /// Returns how many steps of all descents were done, and how many were to be.
    pub fn steps(&self) -> [u64; 2] {
        let descents = || self.descents.iter();
        [descents().map(|descent| descent.steps).sum(), descents().map(|descent| descent.planned_steps).sum()]
    }
}

/// What steps came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DescentReport {
    /// The name.
    pub name: String,
    /// Steps that were done.
    pub steps: u64,
    /// Steps that were planned; more where time was up.
    pub planned_steps: u64,
    /// Samples of a step.
    pub batch: usize,
    /// The initial learning rate.
    pub learning_rate: f64,
    /// Bytes that the tensors of a step take.
    pub step_bytes: usize,
    /// The step at which a checkpoint was taken up, 0 for steps in one piece.
    pub resumed_at: u64,
    /// Where steps were taken back because the loss diverged.
    pub rollbacks: Vec<Rollback>,
    /// The loss of every step and its terms, by name.
    pub losses: Vec<(String, Vec<f32>)>,
}

/// A student on inputs that were held out, before and after a stage. Nothing of it is accuracy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HeldOut {
    /// Inputs, every variation counted.
    pub images: usize,
    /// How far the student is from the float network, before and after: 0 for equal.
    pub distance: [f32; 2],
    /// The share of inputs to which student and float network give the same class, before and after; none without class
    /// logits.
    pub agreement: Option<[f32; 2]>,
    /// The last features on images of other kinds; none where the network is fed no images.
    pub other_kinds: Vec<OtherKind>,
    /// Whether what the stage made was kept.
    pub is_kept: bool,
}

/// What the last layer reads on images of another kind than those that are trained on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OtherKind {
    /// The kind.
    pub kind: &'static str,
    /// Centered SQNR against the float network in dB, before and after.
    pub sqnr_db: [f64; 2],
}

impl HeldOut {
    /// Returns why what the stage made was not kept; nothing where it was.
    pub fn refused(&self) -> Option<&'static str> {
        match (self.is_kept, self.distance[1] < self.distance[0]) {
            (true, _) => None,
            (false, true) => Some("farther from the float network on images of other kinds"),
            (false, false) => Some("no nearer than what it started from"),
        }
    }
}
