//! From what was built to a graph of its own.

use super::Expr;
use super::builder::{Builder, STOP_GRADIENT, STOP_GRADIENT_DOMAIN};
use crate::error::{Error, Result};
use crate::ir::{Graph, ValueId};

impl Builder {
    /// Returns the graph of everything that `outputs` need, under the names given to them. Inputs stay, in the order in
    /// which they were made, whether they are needed or not.
    ///
    /// # Errors
    /// The first mistake; two outputs of one name; an output that is an input or a constant (an Identity in between
    /// makes it one).
    pub fn finish(&self, outputs: &[(&str, Expr)]) -> Result<Graph> {
        let mut state = self.state.borrow_mut();
        if let Some(error) = state.error.take() {
            return Err(error);
        }
        let mut graph = state.graph.clone();
        for (id, fact) in graph.value_ids().zip(&state.facts) {
            let value = graph.value_mut(id);
            (value.dtype, value.shape) = (fact.dtype, fact.shape.clone());
        }
        for (name, expr) in outputs {
            let made = graph.nodes.iter().any(|node| node.outputs.contains(&Some(expr.id)));
            if !made || graph.outputs.contains(&expr.id) {
                let message = "is an input, a constant, or an output already; put an Identity in between";
                return Err(Error::shape(format!("output \"{name}\""), message));
            }
            graph.outputs.push(expr.id);
        }
        drop_stop_gradients(&mut graph);
        for (name, _) in outputs {
            if graph.find(name).is_some_and(|id| !graph.outputs.contains(&id)) {
                return Err(Error::shape(format!("output \"{name}\""), "the name is taken"));
            }
        }
        graph.sweep();
        leave_out_unread(&mut graph, &state.asked);
        rename(&mut graph, outputs);
        Ok(graph)
    }
}

fn drop_stop_gradients(graph: &mut Graph) {
    let stops: Vec<(ValueId, ValueId)> = graph
        .nodes
        .iter()
        .filter(|n| n.op_type == STOP_GRADIENT && n.domain == STOP_GRADIENT_DOMAIN)
        .filter_map(|n| Some((n.input(0)?, n.output(0)?)))
        .collect();
    for (input, output) in stops {
        graph.replace_uses(output, input);
    }
    graph.nodes.retain(|n| n.domain != STOP_GRADIENT_DOMAIN);
}

fn leave_out_unread(graph: &mut Graph, optional: &[ValueId]) {
    let read: Vec<ValueId> = graph.nodes.iter().flat_map(|node| node.inputs.iter().flatten().copied()).collect();
    let unread = |id: &ValueId| optional.contains(id) && !read.contains(id) && !graph.outputs.contains(id);
    for node in &mut graph.nodes {
        while node.outputs.last().is_some_and(|last| last.as_ref().is_none_or(unread)) {
            node.outputs.pop();
        }
    }
}

fn rename(graph: &mut Graph, outputs: &[(&str, Expr)]) {
    for (i, (name, _)) in outputs.iter().enumerate() {
        let id = graph.outputs[i];
        if graph.name_of(id) != *name {
            let named = graph.find_or_add(name);
            graph.swap_names(id, named);
        }
    }
}
