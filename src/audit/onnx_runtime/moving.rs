//! Operators that move or select values: input and result share one grid.

use super::{eight_bits, one_type};
use crate::audit::view::{KernelGrid, View, op_types};
use crate::audit::{Reason, Runs};
use crate::ir::{Node, ValueId, is_quantize};

/// MaxPool, which takes integers from opset 12 on.
pub(super) fn max_pool(view: &View, node: &Node) -> Result<Runs, Reason> {
    if view.graph.opset() < 12 {
        return Err(Reason::CallForm { what: "MaxPool below opset 12".to_owned() });
    }
    same_grid(view, node)
}

/// The input dequantized and the result quantized with one scale and zero point.
pub(super) fn same_grid(view: &View, node: &Node) -> Result<Runs, Reason> {
    let (input, before) = dequantized(view, node)?;
    let output = node.output(0).ok_or(Reason::NotQuantized)?;
    let behind = result(view, node, output, &before)?;
    on_one_grid(view, &before, &behind, input, output)
}

/// Split: every result quantized with the input's scale and zero point.
pub(super) fn split(view: &View, node: &Node) -> Result<Runs, Reason> {
    let (input, before) = dequantized(view, node)?;
    for &output in node.outputs.iter().flatten() {
        on_one_grid(view, &before, &view.result(output)?, input, output)?;
    }
    Ok(Runs::Integer)
}

/// ArgMax finds the same place among integers.
pub(super) fn arg_max(view: &View, node: &Node) -> Result<Runs, Reason> {
    let (input, before) = dequantized(view, node)?;
    if !before.is_scalar() {
        return Err(Reason::GridForm { tensor: view.name(input) });
    }
    eight_bits(view, &[(input, before.dtype)])?;
    Ok(Runs::Integer)
}

fn dequantized(view: &View, node: &Node) -> Result<(ValueId, KernelGrid), Reason> {
    let input = node.input(0).ok_or(Reason::NotQuantized)?;
    // A quantizer behind the node is moved before it where that is possible.
    let moved = || view.moved_over(node).then(|| view.result(input).ok()).flatten();
    view.operand(input).or_else(moved).map(|grid| (input, grid)).ok_or(Reason::NotQuantized)
}

/// Returns the grid after the node; where ONNX Runtime moves quantizers over it and nothing quantizes the result, the
/// grid before it.
fn result(view: &View, node: &Node, output: ValueId, before: &KernelGrid) -> Result<KernelGrid, Reason> {
    let readers: Vec<&Node> = view.readers(output).collect();
    let quantizers = readers.iter().filter(|n| is_quantize(n)).count();
    if view.moved_over(node) && !view.uses.is_output(output) && quantizers < readers.len() {
        return match quantizers {
            0 => Ok(before.clone()),
            _ => Err(Reason::BranchedResult { tensor: view.name(output), readers: op_types(&readers) }),
        };
    }
    view.result(output)
}

fn on_one_grid(
    view: &View,
    before: &KernelGrid,
    behind: &KernelGrid,
    input: ValueId,
    output: ValueId,
) -> Result<Runs, Reason> {
    for (grid, id) in [(before, input), (behind, output)] {
        if !grid.is_scalar() {
            return Err(Reason::GridForm { tensor: view.name(id) });
        }
    }
    eight_bits(view, &[(input, before.dtype), (output, behind.dtype)])?;
    one_type(&[before.dtype, behind.dtype])?;
    match (&before.scale, before.zero()) == (&behind.scale, behind.zero()) {
        true => Ok(Runs::Integer),
        false => Err(Reason::DifferentGrids { input: view.name(input), result: view.name(output) }),
    }
}
