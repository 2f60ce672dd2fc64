//! Removes declared sizes from graphs with an If: ONNX Runtime infers shapes even inside branches that are never taken,
//! and refuses the model if declared sizes do not fit one of them (1.31; a network for two sampling rates has a branch
//! for frames of each).

use std::borrow::Cow;

use crate::ir::{Dim, Graph};

/// Returns `graph` with all declared sizes open, if it has an If.
pub(super) fn with_open_sizes(graph: &Graph) -> Cow<'_, Graph> {
    if !graph.nodes.iter().any(|node| node.is("If")) {
        return Cow::Borrowed(graph);
    }
    let mut open = graph.clone();
    for id in open.value_ids().filter(|&id| graph.constant_of(id).is_none()) {
        for dim in open.value_mut(id).shape.iter_mut().flatten() {
            *dim = Dim::Unknown;
        }
    }
    Cow::Owned(open)
}
