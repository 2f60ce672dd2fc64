//! Splits a MaxPool with used indices into one for values and one for indices.
//!
//! Before: `y, i = MaxPool(x)`. After: `y = MaxPool(x)` and `_, i = MaxPool(x)`. The values can then be quantized,
//! while the indices, which would change with ties from rounding, come from float values. ONNX Runtime 1.31 moves a
//! QuantizeLinear over a MaxPool even if its indices are used.

use crate::error::Result;
use crate::ir::{Graph, NodeNames};
use crate::plan::gives_indices;

/// Returns the number of MaxPools split.
///
/// # Errors
/// None.
pub fn part_pool_indices(graph: &mut Graph) -> Result<usize> {
    let (uses, mut names) = (graph.uses(), NodeNames::of(graph));
    let mut parted = 0;
    for index in (0..graph.nodes.len()).rev() {
        let node = &graph.nodes[index];
        let Some(y) = node.output(0).filter(|&y| uses.is_output(y) || !uses.consumers(y).is_empty()) else { continue };
        if !gives_indices(node) {
            continue;
        }
        let mut indices = node.clone();
        let unread = graph.add_value(&format!("{}_of_indices", graph.name_of(y)));
        let value = graph.value(y).clone();
        (graph.value_mut(unread).dtype, graph.value_mut(unread).shape) = (value.dtype, value.shape);
        indices.outputs[0] = Some(unread);
        if !indices.name.is_empty() {
            indices.name = names.unique(&format!("{}_indices", indices.name));
        }
        graph.nodes[index].outputs.truncate(1);
        graph.nodes.insert(index + 1, indices);
        parted += 1;
    }
    Ok(parted)
}
