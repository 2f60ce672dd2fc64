//! What a verification found, as data for reports.

use serde::Serialize;

use super::saturation::Saturation;

/// One check with its limit.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// What is checked.
    pub name: String,
    /// Where it was checked.
    pub engine: String,
    /// What was measured; none where nothing could be.
    pub measured: Option<f64>,
    /// What it is held against: a largest value, for agreement and dB a smallest one; none for what is only reported.
    pub limit: Option<f64>,
    /// Whether it holds.
    pub passed: bool,
    /// The worst place, or why nothing was measured.
    pub message: String,
}

impl Check {
    /// Returns whether something was measured that is held against nothing.
    pub fn is_report(&self) -> bool {
        self.measured.is_some() && self.limit.is_none()
    }
}

/// A runtime that takes no part in the checks.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LeftOut {
    /// The runtime.
    pub engine: String,
    /// Why: what it makes of the float model.
    pub reason: String,
}

impl std::fmt::Display for LeftOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} takes no part in the checks: {}", self.engine, self.reason)
    }
}

/// How an output of the quantized model compares with the float model's on the same inputs. On synthetic inputs this is
/// agreement with the float model and says nothing about labels.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OutputAgreement {
    /// The output.
    pub output: String,
    /// Signal-to-noise ratio in dB; [`super::EQUAL_DB`] for equal ones. Without a signal, that of the smallest one.
    pub sqnr_db: f64,
    /// Whether no value of the float output says anything: all lie below the step of the quantized output's grid, or below
    /// what float kernels round.
    pub no_signal: bool,
    /// Cosine of the angle between both.
    pub cosine: f64,
    /// Largest difference.
    pub max_abs: f64,
    /// Whether the output holds integers, of which only the share of equal ones says something.
    pub labels: bool,
    /// Share of images with the same highest class, for class scores; share of equal labels, for integers.
    pub top1_agreement: Option<f64>,
}

/// The error of one quantized tensor against the float model's tensor of the same name.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TensorError {
    /// The tensor's name in the float model.
    pub tensor: String,
    /// Convolutions and matrix products (else the last node) between this tensor and the quantizers before it.
    pub layers: Vec<String>,
    /// Bits of its grid; none for an output that stays float.
    pub bits: Option<u32>,
    /// Relative RMS of the error when the layers are fed with the float model's own tensors, on their grids: what these
    /// layers and this grid add by themselves.
    pub local: f64,
    /// Relative RMS of the error in the running model, all earlier errors included.
    pub accumulated: f64,
    /// Whether every quantizer before it could be fed from the float model; where not, `local` holds earlier errors too.
    pub isolated: bool,
}

/// Integers of one quantizer in one engine against the reference, fed with the same integers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IntegerAgreement {
    /// The quantized float tensor.
    pub tensor: String,
    /// The engine.
    pub engine: String,
    /// Integers compared.
    pub count: usize,
    /// Integers that differ.
    pub differing: usize,
    /// Those of them that stand for a number so near a rounding tie that either integer is right.
    pub ties: usize,
    /// The largest difference in steps.
    pub largest_step: i64,
}

impl IntegerAgreement {
    /// Returns that of a tensor in an engine, with nothing compared yet.
    pub(super) fn of(tensor: &str, engine: &str) -> Self {
        let (tensor, engine) = (tensor.to_owned(), engine.to_owned());
        Self { tensor, engine, count: 0, differing: 0, ties: 0, largest_step: 0 }
    }

    /// Returns how many integers differ that are on no tie.
    pub fn unexplained(&self) -> usize {
        self.differing - self.ties
    }
}

/// Everything that a verification found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Verification {
    /// Samples that were run.
    pub samples: usize,
    /// Samples of which every quantizer's integers were looked at; fewer where the tensors are large.
    pub node_by_node_samples: usize,
    /// Whether the inputs were made up; agreement on them is not a statement about real ones.
    pub synthetic_inputs: bool,
    /// Engines and modes that ran.
    pub engines: Vec<String>,
    /// Whether two independent runtimes ran; false means that nothing was cross-checked.
    pub second_runtime: bool,
    /// Runtimes that take no part in the checks.
    pub left_out: Vec<LeftOut>,
    /// The engine that others are compared with.
    pub reference: Option<String>,
    /// Activation quantizers.
    pub quantizers: usize,
    /// Bits of the coarsest grid.
    pub lowest_bits: u32,
    /// The hard checks: whether the file does the same everywhere.
    pub checks: Vec<Check>,
    /// The user's thresholds, where given.
    pub gates: Vec<Check>,
    /// Against the float model, per output.
    pub outputs: Vec<OutputAgreement>,
    /// Against the float model, per quantized tensor, the largest local error first.
    pub blame: Vec<TensorError>,
    /// Between engines, per quantizer.
    pub integers: Vec<IntegerAgreement>,
    /// Layers that can go wrong on x86 processors without VNNI, with what the inputs of this check would have made of
    /// it.
    pub saturation: Vec<Saturation>,
    /// What could not be compared, and why.
    pub notes: Vec<String>,
}

impl Verification {
    /// Returns whether every hard check holds.
    pub fn passed(&self) -> bool {
        !self.checks.is_empty() && self.checks.iter().all(|check| check.passed)
    }

    /// Returns whether every threshold of the user holds.
    pub fn gates_passed(&self) -> bool {
        self.gates.iter().all(|gate| gate.passed)
    }
}
