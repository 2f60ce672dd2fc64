//! Removes nodes that no engine here supports from a graph, and restores them after the rest was processed.

use std::collections::HashSet;

use crate::error::{Error, Result};
use crate::ir::{Graph, Node, Tensor, ValueId};
use crate::onnx;
use crate::runtime::{Engine, SessionOptions};

/// Domains of operators that ONNX Runtime includes.
const BUILT_IN: &[&str] = &["", "ai.onnx.ml", "ai.onnx.preview.training", "ai.onnx.training", "com.microsoft"];
/// The temporary domain of unknown operators of the default domain during an opset upgrade.
const FOREIGN: &str = "set.aside";

/// Nodes removed from a graph.
#[derive(Clone, Debug)]
pub struct Aside {
    /// The removed nodes; their inputs are graph inputs or initializers.
    graph: Graph,
    /// The outputs of the whole graph.
    outputs: Vec<String>,
    /// Inputs of the rest that these nodes produce.
    made: Vec<String>,
    /// The unsupported operators, for messages.
    pub operators: Vec<String>,
    /// Layers among the nodes: they read a value of unknown type after such an operator.
    pub layers: Vec<String>,
}

/// Removes the nodes that `engine` does not support, and later nodes that read their values of undeclared type or rank.
/// Returns them, or `None` if the engine loads the graph.
///
/// Inputs of such a node become outputs of the graph, its outputs become inputs. Before -> after:
/// `f = Conv(x, w); y = Custom(f)` -> `f = Conv(x, w)`, outputs `f`.
///
/// # Errors
/// [`Error::Resources`] of the engine.
pub fn set_aside(graph: &mut Graph, engine: &dyn Engine) -> Result<Option<Aside>> {
    let foreign: Vec<bool> = graph.nodes.iter().map(|node| is_foreign(node, graph.opset())).collect();
    if !foreign.contains(&true) {
        return Ok(None);
    }
    match engine.load(graph, &SessionOptions::default()) {
        Ok(_) => return Ok(None),
        Err(error @ Error::Resources(_)) => return Err(error),
        Err(_) => {}
    }
    let describe = |node: &Node| match node.domain.as_str() {
        "" => node.op_type.clone(),
        domain => format!("{domain}.{}", node.op_type),
    };
    let mut operators: Vec<String> =
        graph.nodes.iter().zip(&foreign).filter(|(_, is)| **is).map(|(node, _)| describe(node)).collect();
    operators.sort_unstable();
    operators.dedup();
    let taken = with_readers_of_unknown(graph, foreign);
    let mut aside = graph.clone();
    let nodes = std::mem::take(&mut graph.nodes).into_iter().zip(taken);
    let (apart, rest): (Vec<_>, Vec<_>) = nodes.partition(|(_, taken)| *taken);
    aside.nodes = apart.into_iter().map(|(node, _)| node).collect();
    graph.nodes = rest.into_iter().map(|(node, _)| node).collect();
    let names = |ids: &[ValueId]| ids.iter().map(|&id| graph.name_of(id).to_owned()).collect();
    let outputs: Vec<String> = names(&graph.outputs);
    let (from_aside, from_rest) = (made_by(&aside), made_by(graph));
    let read_by_rest: Vec<ValueId> = read_by(graph).into_iter().filter(|id| from_aside.contains(id)).collect();
    let read_by_aside: Vec<ValueId> = read_by(&aside).into_iter().filter(|id| from_rest.contains(id)).collect();
    let made = names(&read_by_rest);
    graph.inputs.extend(read_by_rest);
    graph.outputs.retain(|id| !from_aside.contains(id));
    let new = read_by_aside.iter().copied().filter(|id| !graph.outputs.contains(id)).collect::<Vec<_>>();
    graph.outputs.extend(new);
    graph.sweep();
    aside.inputs = read_by_aside;
    aside.outputs = from_aside.into_iter().collect();
    aside.outputs.sort_unstable();
    aside.sweep();
    let layers =
        aside.nodes.iter().filter(|node| crate::plan::is_layer(node)).map(|node| aside.describe(node)).collect();
    Ok(Some(Aside { graph: aside, outputs, made, operators, layers }))
}

/// Restores the nodes of `aside` in `graph`, the processed rest.
///
/// # Errors
/// When the operator set of `graph` is newer and a node has no counterpart in it.
pub fn put_back(graph: &mut Graph, aside: &Aside) -> Result<()> {
    let mut own = aside.graph.clone();
    for node in own.nodes.iter_mut().filter(|node| node.domain.is_empty() && !onnx::opset::is_known(&node.op_type)) {
        FOREIGN.clone_into(&mut node.domain);
    }
    onnx::upgrade(&mut own, graph.opset())?;
    let made: Vec<ValueId> = aside.made.iter().filter_map(|name| graph.find(name)).collect();
    graph.inputs.retain(|id| !made.contains(id));
    for node in own.nodes.clone() {
        let mut same = |ids: &[Option<ValueId>]| ids.iter().map(|id| id.map(|id| copied(graph, &own, id))).collect();
        let (inputs, outputs) = (same(&node.inputs), same(&node.outputs));
        let domain = if node.domain == FOREIGN { String::new() } else { node.domain.clone() };
        graph.nodes.push(Node { inputs, outputs, domain, ..node });
    }
    graph.outputs = aside.outputs.iter().filter_map(|name| graph.find(name)).collect();
    graph.sort()?;
    graph.sweep();
    Ok(())
}

/// Returns whether ONNX Runtime may lack an operator; misspelled operators are refused at loading.
pub(super) fn is_foreign(node: &Node, opset: i64) -> bool {
    let is_new = || !onnx::opset::is_known(&node.op_type) && !onnx::opset::is_misspelt(node, opset);
    !BUILT_IN.contains(&node.domain.as_str()) || node.domain.is_empty() && is_new()
}

/// Adds to `taken` the nodes that read a value of undeclared type or rank from a taken node.
fn with_readers_of_unknown(graph: &Graph, mut taken: Vec<bool>) -> Vec<bool> {
    let mut unknown = HashSet::new();
    for (node, taken) in graph.nodes.iter().zip(&mut taken) {
        *taken |= node.inputs.iter().flatten().any(|id| unknown.contains(id));
        let is_declared = |id: &ValueId| graph.value(*id).dtype.is_some() && graph.value(*id).shape.is_some();
        if *taken {
            unknown.extend(node.outputs.iter().flatten().copied().filter(|id| !is_declared(id)));
        }
    }
    taken
}

fn made_by(graph: &Graph) -> HashSet<ValueId> {
    graph.nodes.iter().flat_map(|node| node.outputs.iter().flatten().copied()).collect()
}

/// Returns the values that the nodes of a graph read, each once, in order.
fn read_by(graph: &Graph) -> Vec<ValueId> {
    let mut seen = HashSet::new();
    let read = graph.nodes.iter().flat_map(|node| node.inputs.iter().flatten().copied());
    read.filter(|&id| seen.insert(id)).collect()
}

/// Returns the value of `graph` that corresponds to `id` of `own`.
fn copied(graph: &mut Graph, own: &Graph, id: ValueId) -> ValueId {
    let value = own.value(id);
    let Some(tensor) = &value.constant else {
        let copy = graph.find_or_add(value.name());
        let new = graph.value_mut(copy);
        (new.dtype, new.declared) = (new.dtype.or(value.dtype), new.declared || value.declared);
        new.shape = new.shape.take().or_else(|| value.shape.clone());
        return copy;
    };
    let same = |known: &Tensor| known == tensor;
    match graph.find(value.name()).filter(|&known| graph.constant_of(known).is_some_and(same)) {
        Some(known) => known,
        None => graph.add_constant(value.name(), tensor.clone()),
    }
}
