//! The rules of ONNX Runtime's CPU execution provider (1.31, x86-64, default options): which Q/DQ patterns its
//! optimizer replaces with integer kernels.

mod elementwise;
mod layers;
mod moving;

pub use layers::BIAS_SCALE_TOLERANCE;

use super::Reason;
use super::rule::Row;
use super::view::{KernelGrid, View};
use crate::ir::{DType, Node, ValueId};

/// One row per operator family; operators without a row have no integer kernel.
pub(super) const RULES: &[Row] = &[
    Row { ops: &["Conv"], judge: layers::conv },
    Row { ops: &["Gemm"], judge: layers::gemm },
    Row { ops: &["MatMul"], judge: layers::matmul },
    Row { ops: &["Add", "Mul"], judge: elementwise::all_on_grids },
    Row { ops: &["Concat"], judge: elementwise::all_on_grids },
    Row { ops: &["AveragePool", "GlobalAveragePool"], judge: elementwise::all_on_grids },
    Row { ops: &["LeakyRelu", "Sigmoid", "Softmax"], judge: elementwise::all_on_grids },
    Row { ops: &["Where"], judge: elementwise::choose },
    Row { ops: &["Relu", "Clip"], judge: elementwise::activation },
    Row { ops: &["MaxPool"], judge: moving::max_pool },
    Row { ops: &["ReduceMax", "ReduceMin", "Resize"], judge: moving::same_grid },
    Row { ops: &["Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze"], judge: moving::same_grid },
    Row { ops: &["Slice", "Gather", "GatherElements", "Tile", "Expand", "DepthToSpace"], judge: moving::same_grid },
    Row { ops: &["Split"], judge: moving::split },
    Row { ops: &["ArgMax"], judge: moving::arg_max },
];

/// Returns the only quantizer after a kernel's result, skipping a redundant Relu or Clip.
fn required_result(view: &View, node: &Node) -> Result<KernelGrid, Reason> {
    let output = node.output(0).ok_or(Reason::NotQuantized)?;
    if view.uses.is_output(output) {
        return Err(Reason::GraphOutput { tensor: view.name(output) });
    }
    view.result(view.behind_activation(output)?)
}

/// Refuses types of other than 8 bits; `ids` runs beside `types`.
fn eight_bits(view: &View, operands: &[(ValueId, DType)]) -> Result<(), Reason> {
    match operands.iter().find(|(_, dtype)| !matches!(dtype, DType::U8 | DType::I8)) {
        Some((id, dtype)) => Err(Reason::TypeWithoutKernel { tensor: view.name(*id), found: dtype.to_string() }),
        None => Ok(()),
    }
}

fn one_type(types: &[DType]) -> Result<(), Reason> {
    match types.iter().all(|t| *t == types[0]) {
        true => Ok(()),
        false => Err(Reason::MixedTypes { types: types.iter().map(ToString::to_string).collect() }),
    }
}
