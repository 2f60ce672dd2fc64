//! How far gradients go in a network, as far as its operators tell.

use super::has_rule;
use crate::ir::{Graph, Node, ValueId};

/// Which values follow from where something is trained, and which of them gradients come back from.
#[derive(Clone, Debug)]
pub struct Reach {
    follows: Vec<bool>,
    passes: Vec<bool>,
    /// The places of the nodes that no gradient passes and that nothing of the kind lies before.
    pub blocked: Vec<usize>,
}

impl Reach {
    /// Returns what follows from `values`, and from every node that `begins`. Sizes follow from nothing.
    pub fn of(graph: &Graph, values: &[ValueId], begins: fn(&Node) -> bool) -> Self {
        let count = graph.value_ids().count();
        let mut reach = Self { follows: vec![false; count], passes: vec![false; count], blocked: Vec::new() };
        for id in values {
            (reach.follows[id.index()], reach.passes[id.index()]) = (true, true);
        }
        let nodes = graph.nodes.iter().enumerate();
        for (place, node) in nodes.filter(|(_, node)| !node.is("Shape") && !node.is("Size")) {
            let inputs = || node.inputs.iter().flatten().filter(|id| reach.follows[id.index()]);
            if !begins(node) && inputs().next().is_none() {
                continue;
            }
            let before = inputs().all(|id| reach.passes[id.index()]);
            let through = before && has_rule(node);
            if before && !through {
                reach.blocked.push(place);
            }
            for id in node.outputs.iter().flatten() {
                (reach.follows[id.index()], reach.passes[id.index()]) = (true, through);
            }
        }
        reach
    }

    /// Returns whether `value` depends on what is trained.
    pub fn follows(&self, value: ValueId) -> bool {
        self.follows[value.index()]
    }

    /// Returns whether it does, and gradients pass every operator in between.
    pub fn passes(&self, value: ValueId) -> bool {
        self.passes[value.index()]
    }
}
