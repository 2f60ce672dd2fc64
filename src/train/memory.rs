//! What a step takes of memory, before it is run.

use crate::ir::{Graph, ValueId};

/// Returns the most bytes that the tensors of `graph` take at a time, its nodes run in order: constants, inputs and
/// outputs all along, other results from the node that makes them to the last that reads them. Shapes must be known.
///
/// Engines also hold what kernels need for themselves and what their allocators round up.
pub fn peak_bytes(graph: &Graph) -> usize {
    let bytes = |id: ValueId| {
        let value = graph.value(id);
        let elements: usize = value.static_shape().map_or(0, |shape| shape.iter().product());
        (elements * value.dtype.map_or(0, |dtype| dtype.bits())).div_ceil(8)
    };
    let mut last_reader = vec![0; graph.value_ids().count()];
    for (place, node) in graph.nodes.iter().enumerate() {
        node.inputs.iter().flatten().for_each(|id| last_reader[id.index()] = place);
    }
    let mut stays = vec![false; last_reader.len()];
    let constants = graph.value_ids().filter(|&id| graph.constant_of(id).is_some());
    constants.chain(graph.inputs.iter().copied()).chain(graph.outputs.iter().copied()).for_each(|id| {
        stays[id.index()] = true;
    });
    let mut held: usize = graph.value_ids().filter(|id| stays[id.index()]).map(bytes).sum();
    let mut most = held;
    for (place, node) in graph.nodes.iter().enumerate() {
        let results = || node.outputs.iter().flatten().copied().filter(|id| !stays[id.index()]);
        held += results().map(bytes).sum::<usize>();
        most = most.max(held);
        let mut done: Vec<ValueId> = node.inputs.iter().flatten().copied().collect();
        done.extend(results().filter(|id| last_reader[id.index()] == 0));
        done.sort_unstable();
        done.dedup();
        let ends = |id: &ValueId| !stays[id.index()] && last_reader[id.index()] <= place;
        held -= done.into_iter().filter(ends).map(bytes).sum::<usize>();
    }
    most
}
