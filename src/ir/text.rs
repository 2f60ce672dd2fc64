//! A readable dump of a graph, one node per line, for snapshots and messages.

use std::fmt::Write;

use super::{Attr, Graph, Shape, Tensor, ValueId};

/// Returns the graph as text: inputs, nodes with attributes, outputs. Small integer constants are spelled out.
pub fn text(graph: &Graph) -> String {
    let mut out = String::new();
    let declared = |ids: &[ValueId]| {
        let one = |id: &ValueId| {
            let value = graph.value(*id);
            let dtype = value.dtype.map_or("?".to_owned(), |d| d.to_string());
            format!("%{}: {dtype}{}", value.name(), shape(value.shape.as_ref()))
        };
        ids.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    let _ = writeln!(out, "inputs {}", declared(&graph.fed_inputs()));
    for node in &graph.nodes {
        let names = |ids: &[Option<ValueId>]| {
            let one = |id: &Option<ValueId>| id.map_or("_".to_owned(), |id| operand(graph, id));
            ids.iter().map(one).collect::<Vec<_>>().join(", ")
        };
        let _ = write!(out, "{} = {}({})", names(&node.outputs), node.op_type, names(&node.inputs));
        for (name, attr) in node.attrs.iter() {
            let _ = write!(out, " {name}={}", attribute(attr));
        }
        out.push('\n');
    }
    let _ = writeln!(out, "outputs {}", declared(&graph.outputs));
    out
}

fn shape(shape: Option<&Shape>) -> String {
    let Some(shape) = shape else { return "[…]".to_owned() };
    let dims: Vec<String> = shape.iter().map(ToString::to_string).collect();
    format!("[{}]", dims.join(", "))
}

fn operand(graph: &Graph, id: ValueId) -> String {
    match graph.constant_of(id) {
        Some(tensor) => constant(tensor),
        None => format!("%{}", graph.name_of(id)),
    }
}

fn constant(tensor: &Tensor) -> String {
    const SHOWN: usize = 8;
    match tensor.to_i64() {
        Ok(values) if tensor.len() <= SHOWN => format!("{values:?}"),
        _ => format!("{}{:?}", tensor.dtype(), tensor.shape()),
    }
}

fn attribute(attr: &Attr) -> String {
    match attr {
        Attr::Int(v) => v.to_string(),
        Attr::Float(v) => format!("{v:?}"),
        Attr::String(v) => String::from_utf8_lossy(v).into_owned(),
        Attr::Ints(v) => format!("{v:?}"),
        Attr::Floats(v) => format!("{v:?}"),
        Attr::Tensor(t) => constant(t),
        Attr::Strings(v) => format!("{} strings", v.len()),
        Attr::Tensors(v) => format!("{} tensors", v.len()),
        Attr::Graph(body) => format!("{} nodes", body.graph.nodes.len()),
    }
}
