//! Presets: how a Q/DQ file must look for the runtime that the user names.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Whom the emitted file is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// True to the bits asked for: the smallest file, any runtime that follows the specification.
    #[default]
    Onnx,
    /// Everything that ONNX Runtime's CPU kernels can run in integer does; weights live in 8 bits.
    OrtCpu,
}

impl Target {
    /// Returns whether weights of 4 bits and below are stored packed (opset 21) instead of in 8 bits.
    pub fn packs_weights(self) -> bool {
        match self {
            Self::Onnx => true,
            Self::OrtCpu => false,
        }
    }

    /// Returns whether layers that ONNX Runtime's CPU kernels compute more slowly in integers stay float.
    pub fn keeps_slow_layers_float(self) -> bool {
        match self {
            Self::Onnx => false,
            Self::OrtCpu => true,
        }
    }

    /// Returns whether every tensor between integer kernels gets its Q/DQ pair, not only the inputs of layers.
    pub fn quantizes_outputs(self) -> bool {
        match self {
            Self::Onnx => false,
            Self::OrtCpu => true,
        }
    }
}
