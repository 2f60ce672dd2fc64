//! Sums, products, joins, means and activation functions.

use super::{eight_bits, one_type, required_result};
use crate::audit::view::{KernelGrid, View};
use crate::audit::{Reason, Runs};
use crate::ir::{Node, ValueId};

/// Every input dequantized, the result quantized, one type throughout.
pub(super) fn all_on_grids(view: &View, node: &Node) -> Result<Runs, Reason> {
    on_grids(view, node, &node.inputs.iter().flatten().copied().collect::<Vec<_>>())
}

/// Where: both branches and the result.
pub(super) fn choose(view: &View, node: &Node) -> Result<Runs, Reason> {
    on_grids(view, node, &node.inputs.iter().skip(1).flatten().copied().collect::<Vec<_>>())
}

fn on_grids(view: &View, node: &Node, inputs: &[ValueId]) -> Result<Runs, Reason> {
    let grids: Vec<(ValueId, Option<KernelGrid>)> = inputs.iter().map(|&id| (id, view.operand(id))).collect();
    if grids.iter().all(|(_, grid)| grid.is_none()) {
        return Err(Reason::NotQuantized);
    }
    if let Some((id, _)) = grids.iter().find(|(_, grid)| grid.is_none()) {
        return Err(Reason::FloatOperand { tensor: view.name(*id) });
    }
    let mut types: Vec<_> = grids.into_iter().filter_map(|(id, grid)| Some((id, grid?.dtype))).collect();
    let result = required_result(view, node)?;
    types.extend(node.output(0).map(|id| (id, result.dtype)));
    eight_bits(view, &types)?;
    one_type(&types.iter().map(|t| t.1).collect::<Vec<_>>())?;
    Ok(Runs::Integer)
}

/// A Relu or Clip is absorbed by a quantizer that clips as much.
pub(super) fn activation(view: &View, node: &Node) -> Result<Runs, Reason> {
    let output = node.output(0).ok_or(Reason::NotQuantized)?;
    match view.result(output) {
        Ok(grid) if view.is_needless(node, &grid) => Ok(Runs::Absorbed),
        Ok(_) => Err(Reason::ActivationStays { op: node.op_type.clone(), tensor: view.name(output) }),
        Err(_) if node.input(0).is_none_or(|x| view.operand(x).is_none()) => Err(Reason::NotQuantized),
        Err(_) => Err(Reason::NoIntegerKernel { op: node.op_type.clone() }),
    }
}
