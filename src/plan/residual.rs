//! Residual sums: which operands are on a grid of their own.

use super::target::ResidualSums;
use super::{Target, is_layer};
use crate::ir::{Graph, Node, Uses, ValueId};

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
