//! Extracts nodes as a separate graph.

use std::collections::HashMap;
use std::ops::Range;

use super::{Graph, Node, Value, ValueId};

impl Graph {
    /// Returns `nodes` as a graph without inputs and outputs, and the handles of their values in it. Names, types,
    /// shapes and contents of these values are copied, nothing else.
    pub fn part(&self, nodes: Range<usize>) -> (Self, HashMap<ValueId, ValueId>) {
        let mut part = Self::default();
        (part.name, part.ir_version) = (self.name.clone(), self.ir_version);
        (part.opsets, part.metadata) = (self.opsets.clone(), self.metadata.clone());
        let mut own = HashMap::new();
        for node in &self.nodes[nodes] {
            let mut same = |ids: &[Option<ValueId>]| -> Vec<Option<ValueId>> {
                ids.iter()
                    .map(|id| id.map(|id| *own.entry(id).or_insert_with(|| part.copy_of(self.value(id)))))
                    .collect()
            };
            let (inputs, outputs) = (same(&node.inputs), same(&node.outputs));
            part.nodes.push(Node { inputs, outputs, ..node.clone() });
        }
        (part, own)
    }

    fn copy_of(&mut self, value: &Value) -> ValueId {
        let id = self.add_value(value.name());
        *self.value_mut(id) = Value { declared: false, ..value.clone() };
        id
    }
}
