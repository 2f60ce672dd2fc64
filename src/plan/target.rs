//! Targets: the form of Q/DQ files for each runtime. One target is one row of plain data; placement and emission read
//! the row and never match on the name.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::LAYERS;
use super::layer_shape::{FloatRule, few_channels, one_vector, small_product};

/// The runtime of the emitted file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// The requested bits exactly and the smallest file, for any runtime that follows the specification.
    #[default]
    Onnx,
    /// Integers wherever ONNX Runtime's CPU kernels run faster with them; weights are stored in 8 bits.
    OrtCpu,
    /// NVIDIA TensorRT: signed symmetric activations of 8 bits, float biases, sums fused with the convolution before.
    #[value(name = "tensorrt")]
    #[serde(rename = "tensorrt")]
    TensorRt,
    /// Intel OpenVINO: unsigned affine activations, signed symmetric weights in 8 bits.
    #[value(name = "openvino")]
    #[serde(rename = "openvino")]
    OpenVino,
    /// One file for ONNX Runtime, tract and OpenVINO: only 8-bit types and operator set 13.
    Portable,
}

/// The quantized operands of a residual sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResidualSums {
    /// Both: integer kernels add integers.
    BothOperands,
    /// Only the shortcut: the result of the layer that the sum is fused with stays float.
    ShortcutAlone,
}

/// The requirements of a target.
#[derive(Debug)]
pub struct Choices {
    /// Whether activations are signed with zero point 0, instead of unsigned with a free zero point.
    pub symmetric_activations: bool,
    /// The fewest bits that activations can have.
    pub fewest_activation_bits: u32,
    /// Whether weights may have a zero point other than 0.
    pub affine_weights: bool,
    /// Whether biases become int32 with the scale of the accumulator, instead of staying float.
    pub quantizes_biases: bool,
    /// Whether every tensor between integer kernels gets a Q/DQ pair, not only the inputs of layers.
    pub quantizes_outputs: bool,
    /// Whether a Relu or Clip before a quantizer is moved after it, into integers.
    pub clips_in_integers: bool,
    /// Operands of residual sums.
    pub residual_sums: ResidualSums,
    /// Whether the inputs of a Concat share a grid even without a quantized reader of its result.
    pub concat_shares_grid: bool,
    /// Whether layers at the front of the network that ONNX Runtime computes more slowly in integers stay float.
    pub keeps_slow_head_float: bool,
    /// Layers that are slower in integers than in float.
    pub keeps_float: &'static [FloatRule],
    /// Operators whose weights of 4 bits and below can be stored two per byte.
    pub packs: &'static [&'static str],
    /// Whether they are by default, and why.
    pub packs_by_default: (bool, &'static str),
    /// Whether a layer with a packed weight reads its input in float.
    pub packed_weights_alone: bool,
    /// The least operator set.
    pub opset: i64,
    /// The runtime of the file, if no check can run it.
    pub unchecked_runtime: Option<&'static str>,
    /// Whether the file is run on x86 processors, some of which saturate sums of two products at 16 bits.
    pub runs_on_x86: bool,
}

/// The operator set and file format that packed 4-bit weights need.
pub const PACKED_OPSET: i64 = 21;
/// The operator set that per-channel scales need.
pub const PER_CHANNEL_OPSET: i64 = 13;

const ONNX: Choices = Choices {
    symmetric_activations: false,
    fewest_activation_bits: 2,
    affine_weights: true,
    quantizes_biases: true,
    quantizes_outputs: false,
    clips_in_integers: false,
    residual_sums: ResidualSums::BothOperands,
    concat_shares_grid: false,
    keeps_slow_head_float: false,
    keeps_float: &[],
    packs: LAYERS,
    packs_by_default: (true, "the smallest file; --container int8 with --target ort-cpu is the fast one"),
    packed_weights_alone: false,
    opset: PER_CHANNEL_OPSET,
    unchecked_runtime: None,
    runs_on_x86: true,
};

const ORT_CPU: Choices = Choices {
    quantizes_outputs: true,
    clips_in_integers: true,
    keeps_slow_head_float: true,
    packs_by_default: (false, "ONNX Runtime's integer kernels read only 8-bit weights"),
    ..ONNX
};

const TENSORRT: Choices = Choices {
    symmetric_activations: true,
    fewest_activation_bits: 8,
    affine_weights: false,
    quantizes_biases: false,
    residual_sums: ResidualSums::ShortcutAlone,
    concat_shares_grid: true,
    keeps_float: &[few_channels, small_product, one_vector],
    packs: &["Gemm", "MatMul"],
    packs_by_default: (true, "TensorRT reads INT4 weights of matrix products, with float inputs; not of convolutions"),
    packed_weights_alone: true,
    opset: 19,
    unchecked_runtime: Some("TensorRT"),
    runs_on_x86: false,
    ..ONNX
};

const OPENVINO: Choices = Choices {
    affine_weights: false,
    clips_in_integers: false,
    keeps_slow_head_float: false,
    unchecked_runtime: Some("OpenVINO"),
    packs_by_default: (false, "OpenVINO's integer kernels read only 8-bit weights"),
    ..ORT_CPU
};

const PORTABLE: Choices = Choices {
    affine_weights: false,
    keeps_slow_head_float: false,
    packs: &[],
    packs_by_default: (false, "tract does not read 4-bit types"),
    ..ORT_CPU
};

impl Target {
    /// Every target.
    pub const ALL: [Self; 5] = [Self::Onnx, Self::OrtCpu, Self::TensorRt, Self::OpenVino, Self::Portable];

    /// Returns the requirements of the target.
    pub fn choices(self) -> &'static Choices {
        match self {
            Self::Onnx => &ONNX,
            Self::OrtCpu => &ORT_CPU,
            Self::TensorRt => &TENSORRT,
            Self::OpenVino => &OPENVINO,
            Self::Portable => &PORTABLE,
        }
    }

    /// Returns the name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Onnx => "onnx",
            Self::OrtCpu => "ort-cpu",
            Self::TensorRt => "tensorrt",
            Self::OpenVino => "openvino",
            Self::Portable => "portable",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_command_line_and_of_reports() {
        for target in Target::ALL {
            let typed = target.to_possible_value().expect("every target can be typed");
            assert_eq!(typed.get_name(), target.name());
            assert_eq!(serde_json::to_value(target).unwrap(), target.name());
        }
    }
}
