//! Graphs in which an If stays, without declared sizes: ONNX Runtime infers shapes inside of branches that are never taken,
//! and refuses the model where declared sizes do not fit one of them (1.31; a network for two sampling rates has a branch
//! for frames of each).

use std::borrow::Cow;

use crate::ir::{Dim, Graph};

/// Returns `graph` with open sizes wherever its file would declare numbers, where an If stays in it.
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
