//! What ONNX Runtime really runs: its optimised graph, and what each node of the file became in it.

use std::collections::HashSet;

use dfq_onnx::ir::{DType, Graph, Node, ValueId};
use dfq_onnx::runtime::SessionOptions;

use super::ort;

/// What became of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Became {
    /// A node that takes integers.
    Integer,
    /// A node that takes floats.
    Float,
    /// Nothing that carries its name.
    Gone,
}

/// Returns the graph that ONNX Runtime makes of `graph` with default options.
pub fn optimised(graph: &Graph) -> Graph {
    ort().optimised(graph, &SessionOptions::default()).unwrap()
}

/// Returns what became of each node of `graph`, by its position.
pub fn became(graph: &Graph) -> Vec<Became> {
    let mut named = graph.clone();
    for (i, node) in named.nodes.iter_mut().enumerate() {
        node.name = format!("node{i}x");
    }
    let optimised = optimised(&named);
    let integer = integers(&optimised);
    let mut found = vec![Became::Gone; graph.nodes.len()];
    for node in &optimised.nodes {
        let Some(i) = origin(&named, node) else { continue };
        let first = node.input(0).is_some_and(|id| integer.contains(&id));
        let takes_integers = first || ["QLinearConcat", "QLinearWhere"].contains(&node.op_type.as_str());
        // A node that was split counts as what is worst of it.
        if found[i] != Became::Float {
            found[i] = if takes_integers { Became::Integer } else { Became::Float };
        }
    }
    found
}

/// The node that `node` was made of: fused and moved ones keep its name before a suffix, blocked ones are called after
/// the tensor that they make.
fn origin(graph: &Graph, node: &Node) -> Option<usize> {
    let name = node.name.strip_prefix("fused ").unwrap_or(&node.name);
    let number = name.strip_prefix("node").and_then(|rest| rest.split_once('x'));
    if let Some((number, _)) = number {
        return number.parse().ok();
    }
    let mut id = graph.find(node.name.strip_suffix("_nchwc")?)?;
    let uses = graph.uses();
    // The blocked node makes what the Relu or Clip behind the original did.
    loop {
        let i = uses.producer(id)?;
        let maker = &graph.nodes[i];
        if !maker.is("Relu") && !maker.is("Clip") {
            return Some(i);
        }
        id = maker.input(0)?;
    }
}

/// Values of 8 bits: dtypes follow from quantizers, and operators that do not change them.
fn integers(graph: &Graph) -> HashSet<ValueId> {
    let is_integer = |dtype: Option<DType>| matches!(dtype, Some(DType::U8 | DType::I8));
    let known = graph.value_ids().filter(|&id| {
        graph
            .constant_of(id)
            .map_or(graph.inputs.contains(&id) && is_integer(graph.value(id).dtype), |t| is_integer(Some(t.dtype())))
    });
    let mut integer: HashSet<ValueId> = known.collect();
    for node in &graph.nodes {
        let takes = node.input(0).is_some_and(|id| integer.contains(&id));
        let makes = match node.op_type.as_str() {
            "QuantizeLinear" | "QLinearConcat" | "QLinearWhere" => true,
            "DequantizeLinear" | "MatMulIntegerToFloat" | "ArgMax" => false,
            "QGemm" => node.input(7).is_some(),
            _ => takes,
        };
        if makes {
            integer.extend(node.outputs.iter().flatten());
        }
    }
    integer
}
