//! Structural soundness: every value has one source, every input is defined before it is read.

use super::{Graph, ValueId};
use crate::error::{Error, Result};

/// Checks that nodes are in topological order, that each value has one source and that outputs exist.
///
/// # Errors
/// [`Error::Malformed`] naming the node or value.
pub fn check(graph: &Graph) -> Result<()> {
    one_source(graph)?;
    let mut defined = given(graph)?;
    for node in &graph.nodes {
        if let Some(id) = node.inputs.iter().flatten().find(|id| !defined[id.index()]) {
            return Err(Error::malformed(
                graph.describe(node),
                format!("input \"{}\" is made by no earlier node, graph input or initializer", graph.name_of(*id)),
            ));
        }
        for id in node.outputs.iter().flatten() {
            defined[id.index()] = true;
        }
    }
    match graph.outputs.iter().find(|id| !defined[id.index()]) {
        Some(id) => Err(Error::malformed(format!("output \"{}\"", graph.name_of(*id)), "no node makes it")),
        None => Ok(()),
    }
}

/// Checks that no value has two producers: two nodes, or a node and a graph input or initializer.
///
/// # Errors
/// [`Error::Malformed`] naming the value.
pub(super) fn one_source(graph: &Graph) -> Result<()> {
    let mut made = given(graph)?;
    for id in graph.nodes.iter().flat_map(|n| n.outputs.iter().flatten()) {
        if std::mem::replace(&mut made[id.index()], true) {
            return Err(twice(graph, *id));
        }
    }
    Ok(())
}

/// Returns for each value whether it is an initializer or fed.
fn given(graph: &Graph) -> Result<Vec<bool>> {
    let mut given: Vec<bool> = graph.value_ids().map(|id| graph.constant_of(id).is_some()).collect();
    for id in graph.fed_inputs() {
        if std::mem::replace(&mut given[id.index()], true) {
            return Err(twice(graph, id));
        }
    }
    Ok(given)
}

fn twice(graph: &Graph, id: ValueId) -> Error {
    Error::malformed(
        format!("tensor \"{}\"", graph.name_of(id)),
        "is made twice; every name needs one source (node output, graph input or initializer)",
    )
}
