//! Producers and readers of values, and edits that rely on them: rewiring, sweeping, sorting.

use super::{Graph, Node, ValueId};
use crate::error::{Error, Result};

/// The producer and the readers of each value; a snapshot of the graph.
#[derive(Debug)]
pub struct Uses {
    producer: Vec<Option<usize>>,
    consumers: Vec<Vec<usize>>,
    is_output: Vec<bool>,
}

impl Uses {
    /// Returns the index of the node that produces `value`.
    pub fn producer(&self, value: ValueId) -> Option<usize> {
        self.producer[value.0]
    }

    /// Returns the indices of the nodes that read `value`, once per use.
    pub fn consumers(&self, value: ValueId) -> &[usize] {
        &self.consumers[value.0]
    }

    /// Returns whether `value` is an output of the graph.
    pub fn is_output(&self, value: ValueId) -> bool {
        self.is_output[value.0]
    }

    /// Returns the only reader of `value`; `None` if it has any other use.
    pub fn only_consumer(&self, value: ValueId) -> Option<usize> {
        match self.consumers(value) {
            [only] if !self.is_output(value) => Some(*only),
            _ => None,
        }
    }
}

impl Graph {
    /// Returns the producer and the readers of each value.
    pub fn uses(&self) -> Uses {
        let mut uses = Uses {
            producer: vec![None; self.values.len()],
            consumers: vec![Vec::new(); self.values.len()],
            is_output: vec![false; self.values.len()],
        };
        for (i, node) in self.nodes.iter().enumerate() {
            for id in node.inputs.iter().flatten() {
                uses.consumers[id.0].push(i);
            }
            for id in node.outputs.iter().flatten() {
                uses.producer[id.0] = Some(i);
            }
        }
        for id in &self.outputs {
            uses.is_output[id.0] = true;
        }
        uses
    }

    /// Returns the node whose first output is the value called `name`.
    pub fn maker(&self, name: &str) -> Option<&Node> {
        let id = self.find(name)?;
        self.nodes.iter().find(|node| node.output(0) == Some(id))
    }

    /// Makes every reader of `old`, graph outputs included, read `new`.
    pub fn replace_uses(&mut self, old: ValueId, new: ValueId) {
        for id in self.nodes.iter_mut().flat_map(|n| n.inputs.iter_mut()).flatten() {
            if *id == old {
                *id = new;
            }
        }
        for id in &mut self.outputs {
            if *id == old {
                *id = new;
            }
        }
    }

    /// Makes the existing tensors among `names` the outputs, and removes what they do not need. Inputs stay.
    pub fn cut(&mut self, names: &[&str]) {
        self.outputs = names.iter().filter_map(|name| self.find(name)).collect();
        self.sweep();
    }

    /// Keeps the nodes at indices for which `keeps` holds; returns the number of removed nodes.
    pub fn retain_nodes(&mut self, keeps: impl Fn(usize) -> bool) -> usize {
        let before = self.nodes.len();
        let mut places = 0..before;
        self.nodes.retain(|_| places.next().is_some_and(&keeps));
        before - self.nodes.len()
    }

    /// Removes nodes with unused results, then unused initializers.
    pub fn sweep(&mut self) {
        let mut live = vec![false; self.values.len()];
        for id in &self.outputs {
            live[id.0] = true;
        }
        let mut keep = vec![false; self.nodes.len()];
        for (i, node) in self.nodes.iter().enumerate().rev() {
            keep[i] = node.outputs.iter().flatten().any(|id| live[id.0]);
            if keep[i] {
                for id in node.inputs.iter().flatten() {
                    live[id.0] = true;
                }
            }
        }
        self.retain_nodes(|i| keep[i]);
        let produced: Vec<ValueId> = self.nodes.iter().flat_map(|n| n.outputs.iter().flatten().copied()).collect();
        for id in produced {
            live[id.0] = true;
        }
        let values = &self.values;
        self.inputs.retain(|id| live[id.0] || values[id.0].constant.is_none());
        for (value, live) in self.values.iter_mut().zip(&live) {
            if !live {
                value.constant = None;
                value.declared = false;
            }
        }
    }

    /// Sorts the nodes topologically, keeping their order where it already is one.
    ///
    /// # Errors
    /// When a value has two producers or nodes form a cycle; names the value, or nodes on the cycle.
    pub fn sort(&mut self) -> Result<()> {
        super::check::one_source(self)?;
        let uses = self.uses();
        let mut waiting: Vec<usize> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            waiting.push(node.inputs.iter().flatten().filter(|id| uses.producer(**id).is_some()).count());
        }
        let mut ready: std::collections::BTreeSet<usize> = (0..self.nodes.len()).filter(|&i| waiting[i] == 0).collect();
        let mut order = Vec::with_capacity(self.nodes.len());
        while let Some(i) = ready.pop_first() {
            order.push(i);
            for id in self.nodes[i].outputs.iter().flatten() {
                for &reader in uses.consumers(*id) {
                    waiting[reader] -= 1;
                    if waiting[reader] == 0 {
                        ready.insert(reader);
                    }
                }
            }
        }
        if order.len() < self.nodes.len() {
            let stuck: Vec<String> = (0..self.nodes.len())
                .filter(|&i| waiting[i] > 0)
                .take(4)
                .map(|i| self.describe(&self.nodes[i]))
                .collect();
            return Err(Error::malformed(
                format!("graph \"{}\"", self.name),
                format!("nodes form a cycle: {}", stuck.join(", ")),
            ));
        }
        let mut nodes: Vec<Option<Node>> = std::mem::take(&mut self.nodes).into_iter().map(Some).collect();
        self.nodes = order.into_iter().filter_map(|i| nodes[i].take()).collect();
        Ok(())
    }
}
