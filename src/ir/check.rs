//! Structural soundness: every value has one source, every input is defined before it is read.

use super::{Graph, ValueId};
use crate::error::{Error, Result};

/// Checks that nodes are in topological order, that each value has one source and that outputs exist.
///
/// # Errors
/// [`Error::Malformed`] naming the node or value.
pub fn check(graph: &Graph) -> Result<()> {
    let mut defined = vec![false; graph.value_ids().count()];
    for id in graph.value_ids() {
        defined[id.index()] = graph.constant_of(id).is_some();
    }
    for id in graph.fed_inputs() {
        if std::mem::replace(&mut defined[id.index()], true) {
            return Err(twice(graph, id));
        }
    }
    for node in &graph.nodes {
        if let Some(id) = node.inputs.iter().flatten().find(|id| !defined[id.index()]) {
            return Err(Error::malformed(
                graph.describe(node),
                format!("input \"{}\" is made by no earlier node, graph input or initializer", graph.name_of(*id)),
            ));
        }
        for id in node.outputs.iter().flatten() {
            if std::mem::replace(&mut defined[id.index()], true) {
                return Err(twice(graph, *id));
            }
        }
    }
    match graph.outputs.iter().find(|id| !defined[id.index()]) {
        Some(id) => Err(Error::malformed(format!("output \"{}\"", graph.name_of(*id)), "no node makes it")),
        None => Ok(()),
    }
}

fn twice(graph: &Graph, id: ValueId) -> Error {
    Error::malformed(
        format!("tensor \"{}\"", graph.name_of(id)),
        "is made twice; every name needs one source (node output, graph input or initializer)",
    )
}
