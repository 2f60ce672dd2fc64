//! Softmax, LogSoftmax and Hardmax 13: they no longer flatten the input to two dimensions.

use super::site::Site;
use crate::error::Result;
use crate::ir::{Dim, Graph, Node, ValueId, front_axis};

/// States the axis where both meanings agree (nothing but ones after it), else flattens and restores the shape around
/// the node, at run time, so that unknown dimensions do not matter.
pub(super) fn unflatten(site: &mut Site) -> Result<()> {
    let axis = site.node().attrs.int("axis", 1);
    let x = site.input(0)?;
    if normalises_one_axis(site.graph, x, axis) {
        site.node_mut().set("axis", axis);
        return Ok(());
    }
    let shape = site.before("shape", "Shape", [x], []);
    let flat = site.before("flat", "Flatten", [x], [("axis", axis.into())]);
    let y = site.node().output(0).ok_or_else(|| site.malformed("has no output"))?;
    let flat_y = site.new_value("flat_result");
    let node = site.node_mut();
    node.inputs[0] = Some(flat);
    node.outputs[0] = Some(flat_y);
    node.set("axis", -1);
    site.after(Node::new("Reshape", [flat_y, shape], [y], []));
    Ok(())
}

fn normalises_one_axis(graph: &Graph, x: ValueId, axis: i64) -> bool {
    if axis == -1 {
        return true;
    }
    let Some(dims) = dims(graph, x) else { return false };
    let Some(axis) = front_axis(axis, dims.len()) else { return false };
    axis < dims.len() && dims[axis + 1..].iter().all(|dim| *dim == Dim::Known(1))
}

/// Returns the declared shape, or two unknown dimensions behind the operators that always give two.
fn dims(graph: &Graph, x: ValueId) -> Option<Vec<Dim>> {
    let value = graph.value(x);
    if let Some(constant) = &value.constant {
        return Some(constant.shape().iter().map(|&n| Dim::Known(n)).collect());
    }
    let makes_matrix = |n: &&Node| (n.is("Gemm") || n.is("Flatten")) && n.output(0) == Some(x);
    value.shape.clone().or_else(|| graph.nodes.iter().find(makes_matrix).map(|_| vec![Dim::Unknown, Dim::Unknown]))
}
