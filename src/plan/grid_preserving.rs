//! Operators whose result is on the grid of their input: they move or select values and add none but 0.

use crate::ir::{Graph, Node, ValueId};

type Condition = fn(&Graph, &Node) -> bool;

/// Operator, how many of its first inputs carry data (`usize::MAX`: all), and when the row holds.
/// Identity is not among them: [`super::plan_with_split_residuals`] separates two grids by it.
const TABLE: &[(&str, usize, Condition)] = &[
    ("MaxPool", 1, one_output),
    ("GlobalMaxPool", 1, always),
    ("ReduceMax", 1, always),
    ("Reshape", 1, always),
    ("Flatten", 1, always),
    ("Transpose", 1, always),
    ("Squeeze", 1, always),
    ("Unsqueeze", 1, always),
    ("Slice", 1, always),
    ("Split", 1, always),
    ("Gather", 1, always),
    ("Expand", 1, always),
    ("Tile", 1, always),
    ("DepthToSpace", 1, always),
    ("SpaceToDepth", 1, always),
    ("Pad", 1, pads_with_zero_or_itself),
    ("Resize", 1, resizes_to_nearest),
    ("Concat", usize::MAX, always),
];

/// Returns the data inputs of a node whose outputs are on the same grid; `None` for other nodes.
pub fn preserved_inputs(graph: &Graph, node: &Node) -> Option<Vec<ValueId>> {
    let row = TABLE.iter().find(|row| node.is(row.0))?;
    let inputs: Vec<ValueId> = node.inputs.iter().take(row.1).flatten().copied().collect();
    let data = inputs.iter().all(|&id| graph.constant_of(id).is_none());
    (data && !inputs.is_empty() && row.2(graph, node)).then_some(inputs)
}

fn always(_: &Graph, _: &Node) -> bool {
    true
}

fn one_output(_: &Graph, node: &Node) -> bool {
    node.outputs.iter().flatten().count() == 1
}

fn pads_with_zero_or_itself(graph: &Graph, node: &Node) -> bool {
    let zero = match (node.input(2), node.attrs.get("value")) {
        (Some(id), _) => {
            graph.constant_of(id).and_then(|t| t.to_f32().ok()).is_some_and(|v| v.iter().all(|&v| v == 0.0))
        }
        (None, Some(_)) => node.attrs.float("value", 0.0) == 0.0,
        (None, None) => true,
    };
    zero || node.attrs.string("mode").unwrap_or("constant") != "constant"
}

fn resizes_to_nearest(_: &Graph, node: &Node) -> bool {
    node.attrs.string("mode").unwrap_or("nearest") == "nearest"
}
