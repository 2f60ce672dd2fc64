//! OpenVINO's stated rules on the CPU: layers whose input and weight are dequantized from 8 bits.

use super::Reason;
use super::rule::{Row, Runs};
use super::view::View;
use crate::ir::{DType, Node};

/// One row per operator family; nothing is known of the others.
pub(super) const RULES: &[Row] =
    &[Row { ops: &["Conv", "Gemm", "MatMul"], judge: layer }, Row { ops: &["Relu", "Clip"], judge: activation }];

fn layer(view: &View, node: &Node) -> Result<Runs, Reason> {
    let (Some(x), Some(w)) = (node.input(0), node.input(1)) else { return Err(Reason::NotQuantized) };
    let (input, weight) = match (view.operand(x), view.operand(w)) {
        (Some(input), Some(weight)) => (input, weight),
        (Some(_), None) => return Err(Reason::FloatWeight { tensor: view.name(w) }),
        (None, Some(_)) => return Err(Reason::WeightOnly),
        (None, None) => return Err(Reason::NotQuantized),
    };
    for (id, grid) in [(x, input), (w, weight)] {
        if !matches!(grid.stored, DType::U8 | DType::I8) {
            return Err(Reason::TypeWithoutKernel { tensor: view.name(id), found: grid.stored.to_string() });
        }
    }
    Ok(Runs::Integer)
}

fn activation(view: &View, node: &Node) -> Result<Runs, Reason> {
    let made = node.input(0).and_then(|id| view.maker(id));
    match made.filter(|n| ["Conv", "Gemm", "MatMul"].iter().any(|op| n.is(op))).map(|n| layer(view, n)) {
        Some(Ok(_)) => Ok(Runs::Absorbed),
        _ => Err(Reason::NotKnown { op: node.op_type.clone() }),
    }
}
