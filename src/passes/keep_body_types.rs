//! Keeps the element types of control-flow bodies when the outer graph is converted.

use crate::error::Result;
use crate::ir::{Attr, Attrs, DType, Graph, Node, ValueId};
use crate::shape;

/// An input or output of a node with bodies.
#[derive(Clone, Copy)]
enum Place {
    Input(usize),
    Output(usize),
}

/// Places and types of each node with bodies, in the order of the nodes.
pub(super) struct BodyTypes(Vec<Vec<(Place, DType)>>);

fn has_bodies(node: &Node) -> bool {
    node.bodies().next().is_some()
}

/// Returns the types for which `converted` holds among inputs and outputs of nodes with bodies.
///
/// # Errors
/// Those of [`shape::facts`].
pub(super) fn body_types(graph: &Graph, converted: fn(DType) -> bool) -> Result<BodyTypes> {
    if !graph.nodes.iter().any(has_bodies) {
        return Ok(BodyTypes(Vec::new()));
    }
    let facts = shape::facts(graph)?;
    let dtype = |id: ValueId| graph.value(id).dtype.or(facts[id.index()].dtype).filter(|&dtype| converted(dtype));
    let of_node = |node: &Node| {
        let inputs = node.inputs.iter().enumerate().map(|(i, id)| (Place::Input(i), *id));
        let outputs = node.outputs.iter().enumerate().map(|(i, id)| (Place::Output(i), *id));
        inputs.chain(outputs).filter_map(|(place, id)| Some((place, dtype(id?)?))).collect()
    };
    Ok(BodyTypes(graph.nodes.iter().filter(|node| has_bodies(node)).map(of_node).collect()))
}

/// Inserts Casts around nodes with bodies, which keep their `types` in a graph that is float32 now, and returns the
/// number of Casts.
///
/// # Errors
/// Those of [`Graph::sort`].
pub(super) fn keep_body_types(graph: &mut Graph, BodyTypes(types): &BodyTypes) -> Result<usize> {
    let nodes: Vec<usize> = (0..graph.nodes.len()).filter(|&at| has_bodies(&graph.nodes[at])).collect();
    let before = graph.nodes.len();
    for (at, types) in nodes.into_iter().zip(types) {
        for &(place, dtype) in types {
            let node = &graph.nodes[at];
            let outer = match place {
                Place::Input(i) => node.input(i),
                Place::Output(i) => node.output(i),
            };
            let Some(outer) = outer else { continue };
            let own = graph.add_value(&format!("{}_{dtype}", graph.name_of(outer)));
            (graph.value_mut(own).dtype, graph.value_mut(outer).dtype) = (Some(dtype), Some(DType::F32));
            let (from, to, made) = match place {
                Place::Input(i) => (outer, own, (&mut graph.nodes[at].inputs[i], dtype)),
                Place::Output(i) => (own, outer, (&mut graph.nodes[at].outputs[i], DType::F32)),
            };
            *made.0 = Some(own);
            let node = cast(from, to, made.1);
            graph.nodes.push(node);
        }
    }
    graph.sort()?;
    Ok(graph.nodes.len() - before)
}

fn cast(from: ValueId, to: ValueId, dtype: DType) -> Node {
    Node::new("Cast", [from], [to], Attrs::from([("to", Attr::Int(dtype.code().into()))]))
}
