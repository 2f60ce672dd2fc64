//! Turns Constant nodes into initializers.

use super::freeze_initializer_inputs::SEPARATE_INITIALIZERS;
use crate::error::Result;
use crate::ir::{Dim, Graph, Tensor, ValueId};
use crate::shape::constant_value;

/// Returns the number of Constant nodes that became initializers under the name of their output.
///
/// Matched: Constant with `value`, `value_int`, `value_ints`, `value_float` or `value_floats`. Refused: strings and
/// sparse values, and a Constant that is a graph output (tract does not accept an initializer as an output).
/// Before -> after: `c = Constant() value=t; y = Op(x, c)` -> `y = Op(x, t)`.
///
/// # Errors
/// None.
pub fn lift_constants(graph: &mut Graph) -> Result<usize> {
    let before = graph.nodes.len();
    let mut lifted = Vec::new();
    let outputs = &graph.outputs;
    graph.nodes.retain(|node| {
        let output = node.output(0).filter(|id| node.is("Constant") && !outputs.contains(id));
        match (output, constant_value(&node.attrs)) {
            (Some(id), Some(tensor)) => {
                lifted.push((id, tensor));
                false
            }
            _ => true,
        }
    });
    for (id, tensor) in lifted {
        make_constant(graph, id, tensor);
    }
    Ok(before - graph.nodes.len())
}

/// Makes `id`, whose producer was removed, an initializer.
pub(super) fn make_constant(graph: &mut Graph, id: ValueId, tensor: Tensor) {
    graph.ir_version = graph.ir_version.max(SEPARATE_INITIALIZERS);
    let value = graph.value_mut(id);
    value.dtype = Some(tensor.dtype());
    value.shape = Some(tensor.shape().iter().copied().map(Dim::Known).collect());
    value.declared = false;
    value.constant = Some(tensor);
}
