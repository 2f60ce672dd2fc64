//! Residual sums: which operands are quantized.

use super::target::ResidualSums;
use super::{Target, is_layer};
use crate::ir::{Graph, Node, Uses, ValueId};

/// Operators whose results span orders of magnitude (a power spectrum, a norm): a sum of them is not a residual sum,
/// and 8 bits cannot hold them.
const SPANNING: &[&str] = &["Exp", "Pow", "Reciprocal"];

/// Returns whether the result of `maker` may be an operand of a residual sum.
pub(super) fn makes_operand(maker: &Node) -> bool {
    let is_square = maker.is("Mul") && maker.input(0) == maker.input(1);
    !is_square && !SPANNING.iter().any(|op| maker.is(op))
}

/// Returns the operands of `node`, a sum of two results of layers, that `target` quantizes.
///
/// If the target fuses a sum with the layer before it, the result of that layer stays float; of two such layers the
/// later one is fused. A sum that cannot be fused runs in float.
pub(super) fn quantized_operands(
    graph: &Graph,
    uses: &Uses,
    target: Target,
    node: &Node,
    operands: [ValueId; 2],
) -> Vec<ValueId> {
    if target.choices().residual_sums == ResidualSums::BothOperands {
        return operands.to_vec();
    }
    let fused_layer = |id: &ValueId| {
        let maker = uses.producer(*id).filter(|_| uses.consumers(*id).len() == 1 && !uses.is_output(*id))?;
        is_layer(&graph.nodes[maker]).then_some(maker)
    };
    match operands.map(|id| fused_layer(&id)) {
        _ if operands[0] == operands[1] || !node.is("Add") => Vec::new(),
        [None, None] => Vec::new(),
        [a, b] if a > b => vec![operands[1]],
        _ => vec![operands[0]],
    }
}
