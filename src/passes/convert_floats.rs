//! Converts a graph in float16, bfloat16 or float64, or several of them, to float32.
//!
//! Before: `y: float16 = Conv(x: float16, w: float16)`. After: `a = Cast(x) to float32; b = Conv(a, w: float32); y =
//! Cast(b) to float16`. Inputs and outputs of the graph keep their types, so that the file stays a drop-in; names of
//! inner tensors stay. A finite float64 beyond float32 becomes the largest float32 of its sign.
//!
//! Not touched: integers, 8-bit floats, a Cast at the edge that is there already, and the bodies of If, Loop and Scan.

use super::keep_body_types::{body_types, keep_body_types};
use crate::error::Result;
use crate::ir::{Attr, Attrs, DType, Graph, Node, Tensor, ValueId};
use crate::shape;

/// Attributes that hold an element type.
const TYPE_ATTRIBUTES: &[&str] = &["to", "dtype", "output_dtype"];

/// Returns the number of tensors, attributes and edges of the graph that were changed.
///
/// # Errors
/// Those of [`shape::facts`], where an output has no declared type.
pub fn convert_floats(graph: &mut Graph) -> Result<usize> {
    declare_outputs(graph)?;
    let of_bodies = body_types(graph, is_converted)?;
    let mut changes = convert_initializers(graph)?;
    changes += convert_attributes(graph)?;
    changes += cast_inputs(graph);
    changes += cast_outputs(graph);
    let edges: Vec<ValueId> = graph.inputs.iter().chain(&graph.outputs).copied().collect();
    for id in graph.value_ids().filter(|id| !edges.contains(id)) {
        let value = graph.value_mut(id);
        if value.dtype.is_some_and(is_converted) {
            value.dtype = Some(DType::F32);
        }
    }
    changes += keep_body_types(graph, &of_bodies)?;
    Ok(changes)
}

/// Returns whether tensors of this type become float32.
pub fn is_converted(dtype: DType) -> bool {
    dtype.is_float() && dtype != DType::F32
}

/// Declares the types of outputs without one, inferred from the unconverted graph.
fn declare_outputs(graph: &mut Graph) -> Result<()> {
    let undeclared: Vec<ValueId> =
        graph.outputs.iter().copied().filter(|&id| graph.value(id).dtype.is_none()).collect();
    if !undeclared.is_empty() {
        let facts = shape::facts(graph)?;
        undeclared.into_iter().for_each(|id| graph.value_mut(id).dtype = facts[id.index()].dtype);
    }
    Ok(())
}

fn convert_initializers(graph: &mut Graph) -> Result<usize> {
    let mut changes = 0;
    for id in graph.value_ids() {
        let Some(old) = graph.constant_of(id).filter(|t| is_converted(t.dtype())) else { continue };
        let tensor = float32(old)?;
        if graph.outputs.contains(&id) {
            let name = format!("{}_float32", graph.name_of(id));
            let readers = graph.nodes.iter().any(|n| n.inputs.contains(&Some(id)));
            if readers {
                let copy = graph.add_constant(&name, tensor);
                reroute(graph, id, copy, |_| true);
                changes += 1;
            }
            continue;
        }
        let value = graph.value_mut(id);
        value.dtype = Some(DType::F32);
        value.constant = Some(tensor);
        changes += 1;
    }
    Ok(changes)
}

fn float32(tensor: &Tensor) -> Result<Tensor> {
    let mut values = tensor.to_f32()?;
    if tensor.dtype() == DType::F64 {
        let wide = tensor.bytes().as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b));
        for (value, _) in values.iter_mut().zip(wide).filter(|(_, wide)| wide.is_finite()) {
            *value = value.clamp(f32::MIN, f32::MAX);
        }
    }
    Ok(Tensor::from_f32(tensor.shape(), &values))
}

fn convert_attributes(graph: &mut Graph) -> Result<usize> {
    let mut changes = 0;
    let outputs = graph.outputs.clone();
    for node in &mut graph.nodes {
        let at_edge = node.is("Cast") && node.output(0).is_some_and(|y| outputs.contains(&y));
        let attrs: Vec<(String, Attr)> = node.attrs.iter().map(|(n, a)| (n.to_owned(), a.clone())).collect();
        for (name, attr) in attrs {
            let new = match attr {
                Attr::Tensor(tensor) if is_converted(tensor.dtype()) => Attr::Tensor(float32(&tensor)?),
                Attr::Int(code) if TYPE_ATTRIBUTES.contains(&name.as_str()) && !at_edge && names_converted(code) => {
                    Attr::Int(DType::F32.code().into())
                }
                _ => continue,
            };
            node.set(&name, new);
            changes += 1;
        }
    }
    Ok(changes)
}

fn names_converted(code: i64) -> bool {
    i32::try_from(code).ok().and_then(DType::from_code).is_some_and(is_converted)
}

/// A Cast accepts any type, so only other readers need a Cast before them.
fn cast_inputs(graph: &mut Graph) -> usize {
    let mut casts = Vec::new();
    for id in graph.fed_inputs() {
        let reads = |n: &Node| n.inputs.contains(&Some(id)) && !n.is("Cast");
        if !graph.value(id).dtype.is_some_and(is_converted) || !graph.nodes.iter().any(reads) {
            continue;
        }
        let inner = new_value(graph, id);
        reroute(graph, id, inner, |n| !n.is("Cast"));
        casts.push(cast(graph, id, inner, DType::F32));
    }
    let added = casts.len();
    graph.nodes.splice(0..0, casts);
    added
}

fn cast_outputs(graph: &mut Graph) -> usize {
    let mut added = 0;
    for id in graph.outputs.clone() {
        let Some(dtype) = graph.value(id).dtype.filter(|&dtype| is_converted(dtype)) else { continue };
        let Some(maker) = graph.nodes.iter().position(|n| n.outputs.contains(&Some(id))) else { continue };
        let read = graph.nodes.iter().any(|n| n.inputs.contains(&Some(id)));
        if graph.nodes[maker].is("Cast") && !read {
            continue;
        }
        let inner = new_value(graph, id);
        for output in graph.nodes[maker].outputs.iter_mut().filter(|output| **output == Some(id)) {
            *output = Some(inner);
        }
        if graph.nodes[maker].is("Cast") {
            graph.nodes[maker].set("to", i64::from(DType::F32.code()));
        }
        reroute(graph, id, inner, |_| true);
        let node = cast(graph, inner, id, dtype);
        graph.nodes.push(node);
        added += 1;
    }
    added
}

fn new_value(graph: &mut Graph, like: ValueId) -> ValueId {
    let name = format!("{}_float32", graph.name_of(like));
    let id = graph.add_value(&name);
    graph.value_mut(id).dtype = Some(DType::F32);
    graph.value_mut(id).shape = graph.value(like).shape.clone();
    id
}

fn reroute(graph: &mut Graph, from: ValueId, to: ValueId, readers: impl Fn(&Node) -> bool) {
    for node in graph.nodes.iter_mut().filter(|n| readers(n)) {
        for input in node.inputs.iter_mut().filter(|input| **input == Some(from)) {
            *input = Some(to);
        }
    }
}

fn cast(graph: &Graph, from: ValueId, to: ValueId, dtype: DType) -> Node {
    let attrs = Attrs::from([("to", Attr::Int(dtype.code().into()))]);
    Node { name: format!("{}_cast", graph.name_of(to)), ..Node::new("Cast", [from], [to], attrs) }
}
