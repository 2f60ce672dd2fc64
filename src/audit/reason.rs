//! Why a node is not computed in integers; each text says what to do.

use serde::Serialize;

/// What keeps a node in floating point.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// Nothing around the node is quantized.
    NotQuantized,
    /// An operand comes in floating point while others are quantized.
    FloatOperand {
        /// The operand.
        tensor: String,
    },
    /// Only the weight is quantized.
    WeightOnly,
    /// The weight is in floating point.
    FloatWeight {
        /// The weight.
        tensor: String,
    },
    /// The bias keeps the kernel from being used.
    FloatBias {
        /// The bias.
        tensor: String,
    },
    /// The bias is not on the grid `input scale times weight scale`, or not int32.
    BiasGrid {
        /// The bias.
        tensor: String,
    },
    /// The result is not quantized.
    FloatResult {
        /// The result.
        tensor: String,
    },
    /// The result is quantized, but something reads it in floating point too.
    BranchedResult {
        /// The result.
        tensor: String,
        /// Operators of all of its readers.
        readers: Vec<String>,
    },
    /// The result is an output of the model.
    GraphOutput {
        /// The output.
        tensor: String,
    },
    /// A Relu or Clip between the node and its quantizer cuts off more than the quantizer does.
    ActivationStays {
        /// Relu or Clip.
        op: String,
        /// Its result.
        tensor: String,
    },
    /// Types differ where the kernel wants one.
    MixedTypes {
        /// Types of inputs and result.
        types: Vec<String>,
    },
    /// An int8 tensor that the runtime does not turn into uint8 because more than one node reads it.
    SignedActivation {
        /// The tensor.
        tensor: String,
    },
    /// A type for which there is no kernel.
    TypeWithoutKernel {
        /// The tensor.
        tensor: String,
        /// Its type.
        found: String,
    },
    /// Input and result must be on one grid.
    DifferentGrids {
        /// The input.
        input: String,
        /// The result.
        result: String,
    },
    /// A scale or zero point is computed at run time, missing, or not the one number that is wanted.
    GridForm {
        /// The tensor.
        tensor: String,
    },
    /// An attribute or the shape of the call has no integer form.
    CallForm {
        /// What it is.
        what: String,
    },
    /// There is not an integer kernel for this operator.
    NoIntegerKernel {
        /// The operator.
        op: String,
    },
    /// Nothing is known about this operator in this runtime.
    NotKnown {
        /// The operator.
        op: String,
    },
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotQuantized => f.write_str("nothing around it is quantized"),
            Self::FloatOperand { tensor } => {
                write!(f, "its operand \"{tensor}\" is in floating point; quantize it (--target ort-cpu does)")
            }
            Self::WeightOnly => {
                f.write_str("only its weight is quantized, which saves space but no time; quantize its input too")
            }
            Self::FloatWeight { tensor } => write!(f, "its weight \"{tensor}\" is in floating point; quantize it"),
            Self::FloatBias { tensor } => {
                write!(f, "its bias \"{tensor}\" is in floating point; store it as int32 before a DequantizeLinear")
            }
            Self::BiasGrid { tensor } => write!(
                f,
                "its bias \"{tensor}\" is not int32 with scale = input scale x weight scale; quantize it on that grid"
            ),
            Self::FloatResult { tensor } => write!(
                f,
                "no QuantizeLinear reads its result \"{tensor}\" directly; add a Q/DQ pair there (--target ort-cpu \
                 does, except for logits)"
            ),
            Self::BranchedResult { tensor, readers } => write!(
                f,
                "its result \"{tensor}\" is read by {}; let everything read it through one Q/DQ pair",
                readers.join(", ")
            ),
            Self::GraphOutput { tensor } => {
                write!(f, "its result \"{tensor}\" is an output of the model, which stays float")
            }
            Self::ActivationStays { op, tensor } => write!(
                f,
                "the {op} after it clips more than the quantizer of \"{tensor}\" does; use uint8 (or int8 with zero \
                 point -128) on the range that the {op} leaves"
            ),
            Self::MixedTypes { types } => write!(
                f,
                "inputs and result have different types ({}); use one, uint8 for activations on this runtime",
                types.join(", ")
            ),
            Self::SignedActivation { tensor } => {
                write!(f, "\"{tensor}\" is int8, for which there is no kernel on x86-64; use uint8 with a zero point")
            }
            Self::TypeWithoutKernel { tensor, found } => {
                write!(f, "\"{tensor}\" is {found}, for which there is no kernel; store the same values in 8 bits")
            }
            Self::DifferentGrids { input, result } => {
                write!(f, "\"{input}\" and \"{result}\" are on different grids; give both one scale and zero point")
            }
            Self::GridForm { tensor } => write!(
                f,
                "the scale or zero point of \"{tensor}\" is missing, computed at run time or not a scalar; store one \
                 constant each"
            ),
            Self::CallForm { what } => write!(f, "{what} has no integer form; rewrite the node or leave it float"),
            Self::NoIntegerKernel { op } => {
                write!(f, "there is no integer kernel for {op}; another operator may have one")
            }
            Self::NotKnown { op } => write!(f, "unknown whether this runtime computes {op} in integers; measure it"),
        }
    }
}
