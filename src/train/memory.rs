//! Estimates the memory of a step before it runs.

use crate::ir::{self, Graph, ValueId};

/// Returns the peak bytes of the tensors of `graph` with its nodes run in order: constants, inputs and outputs live all
/// along, other tensors from their producer to their last consumer. Shapes must be known.
///
/// Engines also need workspace for kernels and allocator overhead.
pub fn peak_bytes(graph: &Graph) -> usize {
    ir::peak_bytes(graph, |id: ValueId| {
        let value = graph.value(id);
        let elements: usize = value.static_shape().map_or(0, |shape| shape.iter().product());
        (elements * value.dtype.map_or(0, |dtype| dtype.bits())).div_ceil(8)
    })
}
