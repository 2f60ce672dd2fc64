//! The result of a verification, as data for reports.

use serde::Serialize;

use super::saturation::Saturation;

/// One check with its limit.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// Its name.
    pub name: String,
    /// The engine.
    pub engine: String,
    /// The measured value, if any.
    pub measured: Option<f64>,
    /// The limit: a maximum, but a minimum for agreement and dB; `None` for a value that is only reported.
    pub limit: Option<f64>,
    /// Whether it holds.
    pub passed: bool,
    /// The worst tensor, or why nothing was measured.
    pub message: String,
}

impl Check {
    /// Returns whether a value is only reported.
    pub fn is_report(&self) -> bool {
        self.measured.is_some() && self.limit.is_none()
    }
}

/// A runtime excluded from the checks.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LeftOut {
    /// The runtime.
    pub engine: String,
    /// The reason: its result on the float model.
    pub reason: String,
}

impl std::fmt::Display for LeftOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} takes no part in the checks: {}", self.engine, self.reason)
    }
}

/// The agreement of an output of the quantized model with the float model on the same inputs. On synthetic inputs this
/// says nothing about labels.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OutputAgreement {
    /// The output.
    pub output: String,
    /// Signal-to-noise ratio in dB; [`super::EQUAL_DB`] for equal ones. Without a signal, that of the smallest one.
    pub sqnr_db: f64,
    /// Whether no value of the float output is significant: all lie below the step of the quantized output's grid, or
    /// below the rounding error of float kernels.
    pub no_signal: bool,
    /// Cosine of the angle between both.
    pub cosine: f64,
    /// Largest difference.
    pub max_abs: f64,
    /// Whether the output holds integers, for which only the share of equal ones matters.
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
    /// Relative RMS of the error when the layers are fed with the float model's own tensors, on their grids: the error
    /// of these layers and this grid alone.
    pub local: f64,
    /// Relative RMS of the error in the running model, all earlier errors included.
    pub accumulated: f64,
    /// Whether every quantizer before it could be fed from the float model; where not, `local` holds earlier errors
    /// too.
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
    /// Differing integers whose value is so near a rounding tie that either is correct.
    pub ties: usize,
    /// The largest difference in steps.
    pub largest_step: i64,
}

impl IntegerAgreement {
    /// Returns an empty agreement of a tensor in an engine.
    pub(super) fn of(tensor: &str, engine: &str) -> Self {
        let (tensor, engine) = (tensor.to_owned(), engine.to_owned());
        Self { tensor, engine, count: 0, differing: 0, ties: 0, largest_step: 0 }
    }

    /// Returns the number of differing integers that are not ties.
    pub fn unexplained(&self) -> usize {
        self.differing - self.ties
    }
}

/// The result of a verification.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Verification {
    /// Samples that were run.
    pub samples: usize,
    /// Samples compared node by node; fewer for large tensors.
    pub node_by_node_samples: usize,
    /// Whether the inputs were synthetic; agreement on them says nothing about real ones.
    pub synthetic_inputs: bool,
    /// Engines and modes that ran.
    pub engines: Vec<String>,
    /// Whether two independent runtimes ran; false means that nothing was cross-checked.
    pub second_runtime: bool,
    /// Runtimes excluded from the checks.
    pub left_out: Vec<LeftOut>,
    /// The engine that others are compared with.
    pub reference: Option<String>,
    /// Activation quantizers.
    pub quantizers: usize,
    /// Bits of the coarsest grid.
    pub lowest_bits: u32,
    /// The hard checks: equal results in all runtimes.
    pub checks: Vec<Check>,
    /// The user's thresholds, where given.
    pub gates: Vec<Check>,
    /// Against the float model, per output.
    pub outputs: Vec<OutputAgreement>,
    /// Against the float model, per quantized tensor, the largest local error first.
    pub blame: Vec<TensorError>,
    /// Between engines, per quantizer.
    pub integers: Vec<IntegerAgreement>,
    /// Layers that can saturate on x86 processors without VNNI, with the error on the inputs of this check.
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
