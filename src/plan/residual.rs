//! Residual sums: which operands are on a grid of their own.

use super::target::ResidualSums;
use super::{Target, is_layer};
use crate::ir::{Graph, Node, Uses, ValueId};

/// Operators whose results span orders of magnitude: what adds those (a power spectrum, a norm) is no residual sum, and no
/// grid of 8 bits holds them.
const SPANNING: &[&str] = &["Exp", "Pow", "Reciprocal"];

/// Returns whether `maker` makes what a residual sum may add.
pub(super) fn makes_operand(maker: &Node) -> bool {
    let is_square = maker.is("Mul") && maker.input(0) == maker.input(1);
    !is_square && !SPANNING.iter().any(|op| maker.is(op))
}

/// Returns the operands of `node`, a sum of two tensors that layers made, that `target` wants quantized.
///
/// Where a target fuses a sum with the layer before it, the result of that layer stays float; of two such layers the
/// later one is fused. A sum that no layer can be fused with runs in float, its operands unchanged.
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
