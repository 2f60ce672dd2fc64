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
    /// What it is held against: a largest value, for agreement and dB a smallest one.
    pub limit: Option<f64>,
    /// Whether it holds.
    pub passed: bool,
    /// The worst place, or why nothing was measured.
    pub message: String,
}

/// How an output of the quantized model compares with the float model's on the same inputs. On synthetic inputs this is
/// agreement with the float model and says nothing about labels.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OutputAgreement {
    /// The output.
    pub output: String,
    /// Signal-to-noise ratio in dB; [`super::EQUAL_DB`] for equal ones.
    pub sqnr_db: f64,
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
    /// The largest difference in steps.
    pub largest_step: i64,
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
    /// Layers that can go wrong on x86 processors without VNNI, with what the inputs of this check would have made of it.
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
