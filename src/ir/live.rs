//! The peak memory of a graph whose nodes run in order.

use super::{Graph, ValueId};

/// Returns the peak bytes of the values of `graph`, by the size `bytes` of each. Constants, inputs and outputs live for
/// the whole run, other results from their producer to their last reader. `usize::MAX` on overflow.
pub fn peak_bytes(graph: &Graph, bytes: impl Fn(ValueId) -> usize) -> usize {
    let mut last_reader = vec![0; graph.value_ids().count()];
    for (place, node) in graph.nodes.iter().enumerate() {
        node.inputs.iter().flatten().for_each(|id| last_reader[id.index()] = place);
    }
    let mut stays = vec![false; last_reader.len()];
    let constants = graph.value_ids().filter(|&id| graph.constant_of(id).is_some());
    constants.chain(graph.inputs.iter().copied()).chain(graph.outputs.iter().copied()).for_each(|id| {
        stays[id.index()] = true;
    });
    let total = |ids: &mut dyn Iterator<Item = ValueId>| ids.map(&bytes).fold(0, usize::saturating_add);
    let mut held = total(&mut graph.value_ids().filter(|id| stays[id.index()]));
    let mut most = held;
    for (place, node) in graph.nodes.iter().enumerate() {
        let results = || node.outputs.iter().flatten().copied().filter(|id| !stays[id.index()]);
        held = held.saturating_add(total(&mut results()));
        most = most.max(held);
        let mut done: Vec<ValueId> = node.inputs.iter().flatten().copied().collect();
        done.extend(results().filter(|id| last_reader[id.index()] == 0));
        done.sort_unstable();
        done.dedup();
        let ends = |id: &ValueId| !stays[id.index()] && last_reader[id.index()] <= place;
        held = held.saturating_sub(total(&mut done.into_iter().filter(ends)));
    }
    most
}
