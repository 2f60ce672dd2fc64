//! Graphs inside of nodes: the branches of If, the bodies of Loop and Scan.

use super::{Graph, Node, ValueId};

/// A graph that a node runs.
///
/// A value of the graph around it that the body reads is one of the node's inputs (behind those that the file lists) and
/// one of the body's (behind its formal ones), so that both graphs are whole by themselves and each use is seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Body {
    /// The graph.
    pub graph: Graph,
    /// For each of the last inputs of the graph, the input of the node that it is.
    pub captures: Vec<usize>,
}

impl Body {
    /// Returns the inputs that the node hands over by position: the formal ones.
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
