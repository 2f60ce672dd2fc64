//! Graphs inside nodes: the branches of If, the bodies of Loop and Scan.

use super::{Graph, Node, ValueId};

/// A graph that a node runs.
///
/// Every outer value that the body reads is an input of the node (after those that the file lists) and an input of the
/// body (after its formal inputs), so both graphs are self-contained and each use is visible.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Body {
    /// The graph.
    pub graph: Graph,
    /// For each captured input of the graph, the index of the node's input.
    pub captures: Vec<usize>,
}

impl Body {
    /// Returns the formal inputs, which the node passes by position.
    pub fn formal_inputs(&self) -> &[ValueId] {
        &self.graph.inputs[..self.graph.inputs.len().saturating_sub(self.captures.len())]
    }

    /// Returns each captured value of the body with the index of the node's input that it is.
    pub fn captured(&self) -> impl Iterator<Item = (ValueId, usize)> {
        let formal = self.formal_inputs().len();
        self.graph.inputs[formal..].iter().copied().zip(self.captures.iter().copied())
    }

    /// Returns the number of nodes for which `wanted` holds, in bodies within the body too.
    pub fn count(&self, wanted: &dyn Fn(&Node) -> bool) -> usize {
        let inner = |node: &Node| node.bodies().map(|(_, body)| body.count(wanted)).sum::<usize>();
        self.graph.nodes.iter().map(|node| usize::from(wanted(node)) + inner(node)).sum()
    }
}
