//! Optional outputs that a file names and nobody reads.

use crate::ir::{Graph, Node, Uses};

/// Operators of which every output but the first is optional.
const OPTIONAL: &[&str] = &["BatchNormalization", "Dropout", "LayerNormalization", "MaxPool"];

/// Drops optional outputs behind the last one that is read and returns the indices of the nodes that lost any. A
/// BatchNormalization with `training_mode`, of which they are part, keeps them.
pub fn drop_unread_outputs(graph: &mut Graph) -> Vec<usize> {
    let uses = graph.uses();
    let mut dropped = Vec::new();
    for (index, node) in graph.nodes.iter_mut().enumerate() {
        let trains = node.attrs.int("training_mode", 0) != 0;
        let read = read_outputs(node, &uses);
        if read < node.outputs.len() && !trains && OPTIONAL.iter().any(|op| node.is(op)) {
            node.outputs.truncate(read);
            dropped.push(index);
        }
    }
    dropped
}

/// Returns how many outputs remain where those behind the last one that is read go; the first one stays.
fn read_outputs(node: &Node, uses: &Uses) -> usize {
    let is_read = |output: &Option<_>| output.is_some_and(|id| uses.is_output(id) || !uses.consumers(id).is_empty());
    node.outputs.iter().rposition(is_read).map_or(1, |last| last + 1)
}
