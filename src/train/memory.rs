//! What a step takes of memory, before it is run.

use crate::ir::{self, Graph, ValueId};

/// Returns the most bytes that the tensors of `graph` take at a time, its nodes run in order: constants, inputs and
/// outputs all along, other results from the node that makes them to the last that reads them. Shapes must be known.
///
/// Engines also hold what kernels need for themselves and what their allocators round up.
pub fn peak_bytes(graph: &Graph) -> usize {
    ir::peak_bytes(graph, |id: ValueId| {
        let value = graph.value(id);
        let elements: usize = value.static_shape().map_or(0, |shape| shape.iter().product());
        (elements * value.dtype.map_or(0, |dtype| dtype.bits())).div_ceil(8)
    })
}
