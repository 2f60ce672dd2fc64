//! Paths through a graph that rounding to a grid would affect: copies of inputs or outputs that leave the network, and
//! values on which the indices of a MaxPool depend.

use crate::ir::{Graph, Node, ValueId};

/// Operators whose results hold values of their inputs and perhaps constants.
const MOVING: &[&str] = &[
    "Cast",
    "CastLike",
    "Compress",
    "Concat",
    "DepthToSpace",
    "Expand",
    "Flatten",
    "Gather",
    "GatherElements",
    "GatherND",
    "Identity",
    "Pad",
    "Reshape",
    "ReverseSequence",
    "ScatterElements",
    "ScatterND",
    "Slice",
    "SpaceToDepth",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Trilu",
    "Unsqueeze",
    "Where",
];

/// The operators of a graph that must read float values.
pub(super) struct FloatPaths {
    /// Per value: whether it is an input or an output of the graph, or moved from such values alone.
    original: Vec<bool>,
    /// Per value: whether it is an output of the graph, or moved into one.
    leaving: Vec<bool>,
    /// Per value: whether indices of a MaxPool depend on it, or on its maker's other outputs, or are it.
    indexed: Vec<bool>,
}

impl FloatPaths {
    /// Returns the paths in `graph`, whose nodes are sorted. Paths to indices begin behind `quantized` nodes: those
    /// read what is on a grid all the same.
    pub fn of(graph: &Graph, quantized: impl Fn(&Node) -> bool) -> Self {
        let mut original = flags(graph, &graph.fed_inputs());
        graph.outputs.iter().for_each(|id| original[id.index()] = true);
        for node in graph.nodes.iter().filter(|node| moves(node)) {
            let mut data = node.inputs.iter().flatten().filter(|&&id| graph.constant_of(id).is_none());
            if data.all(|id| original[id.index()]) {
                mark(&node.outputs, &mut original);
            }
        }
        let (mut leaving, mut indexed) = (flags(graph, &graph.outputs), flags(graph, &[]));
        let mut wanted = flags(graph, &[]);
        for node in graph.nodes.iter().rev() {
            if moves(node) && any_of(&node.outputs, &leaving) {
                mark(&node.inputs, &mut leaving);
            }
            if gives_indices(node) || any_of(&node.outputs, &wanted) && !quantized(node) {
                mark(&node.outputs, &mut indexed);
                mark(&node.inputs, &mut wanted);
            }
        }
        Self { original, leaving, indexed }
    }

    /// Returns the paths for a plan in which the layers that indices depend on stay float, but for those `asked_for`;
    /// where none of the layers that `may_be_quantized` would be left, only what lies behind the last of them stays
    /// float.
    pub fn to_plan(graph: &Graph, may_be_quantized: impl Fn(&Node) -> bool, asked_for: impl Fn(&Node) -> bool) -> Self {
        let paths = Self::of(graph, asked_for);
        let is_left = |node: &Node| may_be_quantized(node) && !paths.lead_to_indices(node);
        if graph.nodes.iter().any(is_left) { paths } else { Self::of(graph, may_be_quantized) }
    }

    /// Returns whether `node` has to read the float values of its input `x`: it makes a copy that leaves the network of
    /// an input or of another output, which stays equal to what it copies; or indices depend on it.
    pub fn lead_through(&self, node: &Node, x: ValueId) -> bool {
        let copies = moves(node) && self.original.get(x.index()) == Some(&true) && any_of(&node.outputs, &self.leaving);
        copies || self.lead_to_indices(node)
    }

    /// Returns whether `node` has to read the float values of any of its inputs.
    pub fn touch(&self, node: &Node) -> bool {
        node.inputs.iter().flatten().any(|&x| self.lead_through(node, x))
    }

    /// Returns whether indices depend on what `node` makes: rounding before it would make ties, and other winners.
    pub fn lead_to_indices(&self, node: &Node) -> bool {
        any_of(&node.outputs, &self.indexed)
    }
}

/// Returns whether `node` is a MaxPool that also tells where it found its values.
pub fn gives_indices(node: &Node) -> bool {
    node.is("MaxPool") && node.output(1).is_some()
}

fn flags(graph: &Graph, set: &[ValueId]) -> Vec<bool> {
    let mut flags = vec![false; graph.value_ids().count()];
    set.iter().for_each(|id| flags[id.index()] = true);
    flags
}

fn mark(ids: &[Option<ValueId>], flags: &mut [bool]) {
    ids.iter().flatten().for_each(|id| flags[id.index()] = true);
}

fn any_of(ids: &[Option<ValueId>], flags: &[bool]) -> bool {
    ids.iter().flatten().any(|id| flags.get(id.index()) == Some(&true))
}

fn moves(node: &Node) -> bool {
    let nearest = node.is("Resize") && node.attrs.string("mode").unwrap_or("nearest") == "nearest";
    nearest || MOVING.iter().any(|op| node.is(op))
}
