//! Use counts of values, updated while a pass rewires a graph: recounting after each change takes time quadratic in the
//! number of nodes.

use crate::ir::{Graph, Node, ValueId};

/// Uses of each value: inputs of nodes, and outputs of the graph.
pub(super) struct Readers(Vec<usize>);

impl Readers {
    /// Returns the uses in `graph`.
    pub fn of(graph: &Graph) -> Self {
        let mut readers = Self(vec![0; graph.value_ids().count()]);
        let inputs = graph.nodes.iter().flat_map(|node| node.inputs.iter().flatten());
        inputs.chain(&graph.outputs).for_each(|&id| readers.add(id));
        readers
    }

    /// Returns whether nothing uses `value`.
    pub fn is_unread(&self, value: ValueId) -> bool {
        self.0.get(value.index()).is_none_or(|&uses| uses == 0)
    }

    /// Counts one more use of `value`.
    pub fn add(&mut self, value: ValueId) {
        if self.0.len() <= value.index() {
            self.0.resize(value.index() + 1, 0);
        }
        self.0[value.index()] += 1;
    }

    /// Counts one use of `value` less.
    pub fn remove(&mut self, value: ValueId) {
        if let Some(uses) = self.0.get_mut(value.index()) {
            *uses = uses.saturating_sub(1);
        }
    }

    /// Subtracts the uses of a removed node.
    pub fn forget(&mut self, node: &Node) {
        node.inputs.iter().flatten().for_each(|&id| self.remove(id));
    }
}
