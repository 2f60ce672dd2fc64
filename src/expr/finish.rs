//! Turns expressions into a graph.

use super::builder::Builder;
use super::{Expr, Lowering, STANDARD};
use crate::error::{Error, Result};
use crate::ir::{Graph, ValueId};

impl Builder {
    /// Returns the graph that computes `outputs` under the given names, in standard operators. All inputs stay, in the
    /// order of their creation.
    ///
    /// # Errors
    /// The first mistake; two outputs of one name; an output that is an input or a constant (insert an Identity).
    pub fn finish(&self, outputs: &[(&str, Expr)]) -> Result<Graph> {
        self.finish_by(&STANDARD, outputs)
    }

    /// Returns the same graph, lowered by `lowering`.
    ///
    /// # Errors
    /// As [`Builder::finish`], and those of the lowering.
    pub fn finish_by(&self, lowering: &Lowering, outputs: &[(&str, Expr)]) -> Result<Graph> {
        let exprs: Vec<Expr> = outputs.iter().map(|(_, expr)| *expr).collect();
        for (i, (name, expr)) in outputs.iter().enumerate() {
            let made = self.graph().nodes.iter().any(|node| node.outputs.contains(&Some(expr.id)));
            if !made || exprs[..i].iter().any(|other| other.id == expr.id) {
                let message = "is an input, a constant, or an output already; put an Identity in between";
                self.fail(Error::shape(format!("output \"{name}\""), message));
            }
        }
        let mut graph = lowering.lower(&self.built(&exprs)?)?;
        for (name, _) in outputs {
            if graph.find(name).is_some_and(|id| !graph.outputs.contains(&id)) {
                return Err(Error::shape(format!("output \"{name}\""), "the name is taken"));
            }
        }
        rename(&mut graph, outputs);
        Ok(graph)
    }

    /// Returns the graph that computes `outputs`, before lowering.
    pub(super) fn built(&self, outputs: &[Expr]) -> Result<Graph> {
        let mut state = self.state.borrow_mut();
        if let Some(error) = state.error.take() {
            return Err(error);
        }
        let mut graph = state.graph.clone();
        for (id, fact) in graph.value_ids().zip(&state.facts) {
            let value = graph.value_mut(id);
            (value.dtype, value.shape) = (fact.dtype, fact.shape.clone());
        }
        graph.outputs = outputs.iter().map(|expr| expr.id).collect();
        graph.sweep();
        leave_out_unread(&mut graph, &state.asked);
        Ok(graph)
    }
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
