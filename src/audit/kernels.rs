//! The runtime that a target stands for, and its table of rules.

use serde::Serialize;

use super::rule::{Row, Runs, judge_by};
use super::view::View;
use super::{Reason, onnx_runtime, openvino, tensorrt};
use crate::ir::Node;
use crate::plan::Target;

/// A runtime whose rules are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kernels {
    /// ONNX Runtime's CPU execution provider on x86-64, with default session options.
    OnnxRuntimeCpu,
    /// TensorRT with explicit quantization.
    TensorRt,
    /// OpenVINO on the CPU.
    OpenVino,
}

impl Kernels {
    /// Returns the kernels of the runtime of `target`; those of ONNX Runtime for portable files.
    pub fn of(target: Target) -> Self {
        match target {
            Target::Onnx | Target::OrtCpu | Target::Portable => Self::OnnxRuntimeCpu,
            Target::TensorRt => Self::TensorRt,
            Target::OpenVino => Self::OpenVino,
        }
    }

    /// Returns the source of the rules.
    pub fn basis(self) -> &'static str {
        match self {
            Self::OnnxRuntimeCpu => "rules tested against ONNX Runtime 1.31 on x86-64",
            Self::TensorRt => "the vendor's documentation; nothing was run",
            Self::OpenVino => "the vendor's documentation; nothing was run",
        }
    }

    /// Returns the table of rules.
    pub fn rules(self) -> &'static [Row] {
        match self {
            Self::OnnxRuntimeCpu => onnx_runtime::RULES,
            Self::TensorRt => tensorrt::RULES,
            Self::OpenVino => openvino::RULES,
        }
    }

    pub(super) fn judge(self, view: &View, node: &Node) -> Result<Runs, Reason> {
        let otherwise: fn(String) -> Reason = match self {
            Self::OnnxRuntimeCpu => |op| Reason::NoIntegerKernel { op },
            Self::TensorRt | Self::OpenVino => |op| Reason::NotKnown { op },
        };
        judge_by(self.rules(), view, node, otherwise)
    }
}

impl std::fmt::Display for Kernels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::OnnxRuntimeCpu => "ONNX Runtime on the CPU",
            Self::TensorRt => "TensorRT",
            Self::OpenVino => "OpenVINO on the CPU",
        })
    }
}
