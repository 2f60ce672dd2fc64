//! Unused optional outputs.

use crate::ir::{Graph, Node, Uses};

/// Operators whose outputs after the first are optional.
const OPTIONAL: &[&str] = &["BatchNormalization", "Dropout", "LayerNormalization", "MaxPool"];

/// Drops optional outputs after the last used one and returns the indices of changed nodes. A BatchNormalization with
/// `training_mode` keeps them.
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

/// Returns the number of outputs up to the last used one, at least 1.
fn read_outputs(node: &Node, uses: &Uses) -> usize {
    let is_read = |output: &Option<_>| output.is_some_and(|id| uses.is_output(id) || !uses.consumers(id).is_empty());
    node.outputs.iter().rposition(is_read).map_or(1, |last| last + 1)
}
