//! TensorRT's stated rules for explicit quantization: signed, symmetric 8 bits before weighted operators.

use super::Reason;
use super::rule::{Row, Runs};
use super::view::{KernelGrid, View};
use crate::ir::{DType, Node, ValueId};

/// One row per operator family; nothing is known of the others.
pub(super) const RULES: &[Row] = &[
    Row { ops: &["Conv", "ConvTranspose", "Gemm", "MatMul"], judge: layer },
    Row { ops: &["Add"], judge: sum },
    Row { ops: &["MaxPool", "AveragePool", "GlobalAveragePool"], judge: pool },
    Row { ops: &["Relu", "Clip"], judge: activation },
];

fn layer(view: &View, node: &Node) -> Result<Runs, Reason> {
    let (Some(x), Some(w)) = (node.input(0), node.input(1)) else { return Err(Reason::NotQuantized) };
    match (view.operand(x), view.operand(w)) {
        (Some(input), Some(weight)) => {
            symmetric(view, x, &input)?;
            symmetric(view, w, &weight)?;
            Ok(Runs::Integer)
        }
        (Some(_), None) => Err(Reason::FloatWeight { tensor: view.name(w) }),
        (None, Some(_)) => Err(Reason::WeightOnly),
        (None, None) => Err(Reason::NotQuantized),
    }
}

/// A sum with a quantized residual operand is fused into the layer before it.
fn sum(view: &View, node: &Node) -> Result<Runs, Reason> {
    let mut grids = node.inputs.iter().flatten().filter_map(|&id| Some((id, view.operand(id)?)));
    let Some((id, grid)) = grids.next() else { return Err(Reason::NotQuantized) };
    symmetric(view, id, &grid)?;
    Ok(Runs::Integer)
}

fn pool(view: &View, node: &Node) -> Result<Runs, Reason> {
    let (Some(x), Some(y)) = (node.input(0), node.output(0)) else { return Err(Reason::NotQuantized) };
    let grid = view.operand(x).ok_or(Reason::NotQuantized)?;
    symmetric(view, x, &grid)?;
    view.result(y)?;
    Ok(Runs::Integer)
}

fn activation(view: &View, node: &Node) -> Result<Runs, Reason> {
    let made = node.input(0).and_then(|id| view.maker(id));
    let maker = made.filter(|n| ["Conv", "ConvTranspose", "Gemm", "MatMul", "Add"].iter().any(|op| n.is(op)));
    match maker.map(|n| if n.is("Add") { sum(view, n) } else { layer(view, n) }) {
        Some(Ok(_)) => Ok(Runs::Absorbed),
        _ => Err(Reason::NotKnown { op: node.op_type.clone() }),
    }
}

fn symmetric(view: &View, id: ValueId, grid: &KernelGrid) -> Result<(), Reason> {
    if grid.stored != DType::I8 {
        return Err(Reason::TypeWithoutKernel { tensor: view.name(id), found: grid.stored.to_string() });
    }
    let zero = grid.zero_point.as_ref().is_none_or(|t| t.to_i64().is_ok_and(|v| v.iter().all(|&z| z == 0)));
    if zero { Ok(()) } else { Err(Reason::CallForm { what: "a zero point other than 0".to_owned() }) }
}
