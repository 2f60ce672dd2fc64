//! Reverse-mode differentiation of a graph that is being built: gradients are expressions of the same graph.
//!
//! Each operator has one small function in [`RULES`]. Gradients of broadcast inputs are summed here, once for all
//! rules. An operator without a rule is an error, never a zero gradient.

mod call;
mod reach;
mod rules;

pub use call::{BackwardCall, Gradients, Rule};
pub use reach::Reach;
pub use rules::{OWN_RULES, RULES};

use crate::error::{Error, Result};
use crate::expr::{Builder, Expr, OWN_DOMAIN, STOP_GRADIENT};
use crate::ir::{Graph, Node, Tensor, ValueId};

/// Returns the gradient of `loss`, a single number, with respect to each of `wrt`, in its shape; zeros where the loss
/// does not depend on it.
///
/// # Errors
/// [`Error::Shape`] for a loss of several elements; [`Error::Unsupported`] naming the first operator without a rule.
pub fn gradients<'b>(loss: Expr<'b>, wrt: &[Expr<'b>]) -> Result<Vec<Expr<'b>>> {
    let builder = loss.builder();
    if loss.len() != 1 {
        return Err(Error::shape("loss", format!("expected a single number, found the shape {:?}", loss.shape())));
    }
    let (nodes, varies) = path(&builder.graph(), wrt);
    let mut gradients: Vec<Option<Expr<'b>>> = vec![None; varies.len()];
    let one = Tensor::from_f32(&loss.shape(), &[1.0]);
    gradients[loss.id().index()] = Some(builder.constant("one", one).cast(loss.dtype()));
    for node in nodes.iter().rev() {
        let grads: Vec<Option<Expr<'b>>> = node.outputs.iter().map(|id| gradients[(*id)?.index()]).collect();
        if grads.iter().all(Option::is_none) {
            continue;
        }
        let wanted = |id: &Option<ValueId>| id.is_some_and(|id| varies[id.index()]);
        let found = apply(builder, node, &grads, &node.inputs.iter().map(wanted).collect::<Vec<_>>())?;
        for (id, gradient) in node.inputs.iter().zip(found) {
            let (Some(id), Some(gradient)) = (*id, gradient) else { continue };
            let slot = &mut gradients[id.index()];
            *slot = Some(slot.map_or(gradient, |sum| sum + gradient));
        }
    }
    Ok(wrt.iter().map(|&e| gradients[e.id().index()].unwrap_or_else(|| builder.zeros(e.dtype(), &e.shape()))).collect())
}

/// Returns whether the operator of `node` has a gradient rule; the rule may still refuse some attributes.
pub fn has_rule(node: &Node) -> bool {
    rule_of(node).is_some()
}

fn rule_of(node: &Node) -> Option<Rule> {
    let rules = if node.domain == OWN_DOMAIN { OWN_RULES } else { RULES };
    rules
        .iter()
        .find(|row| row.0 == node.op_type)
        .map(|row| row.1)
        .filter(|_| node.domain == OWN_DOMAIN || node.is(&node.op_type))
}

/// Returns in order the nodes that depend on `wrt`, and for each value whether it does. Nothing depends on `wrt`
/// through StopGradient, Shape or Size.
fn path(graph: &Graph, wrt: &[Expr]) -> (Vec<Node>, Vec<bool>) {
    let mut varies = vec![false; graph.value_ids().count()];
    wrt.iter().for_each(|e| varies[e.id().index()] = true);
    let mut nodes = Vec::new();
    for node in &graph.nodes {
        let stops = matches!(node.op_type.as_str(), STOP_GRADIENT | "Shape" | "Size");
        if !stops && node.inputs.iter().flatten().any(|id| varies[id.index()]) {
            node.outputs.iter().flatten().for_each(|id| varies[id.index()] = true);
            nodes.push(node.clone());
        }
    }
    (nodes, varies)
}

fn apply<'b>(
    builder: &'b Builder,
    node: &Node,
    grads: &[Option<Expr<'b>>],
    wanted: &[bool],
) -> Result<Vec<Option<Expr<'b>>>> {
    let expr = |id: &Option<ValueId>| id.map(|id| builder.expr(id));
    let inputs: Vec<Option<Expr<'b>>> = node.inputs.iter().map(expr).collect();
    let outputs: Vec<Option<Expr<'b>>> = node.outputs.iter().map(expr).collect();
    if !outputs.iter().flatten().any(|e| e.dtype().is_float()) {
        return Ok(vec![None; inputs.len()]);
    }
    let place = builder.graph().describe(node);
    let Some(rule) = rule_of(node) else {
        let message =
            "has no gradient rule, so that nothing before it can be trained; use a recipe that does not train";
        return Err(Error::unsupported(place, message));
    };
    let call = BackwardCall {
        place: &place,
        op_type: &node.op_type,
        attrs: &node.attrs,
        inputs: &inputs,
        outputs: &outputs,
        grads,
        wanted,
    };
    let mut found = rule(&call)?;
    found.resize(inputs.len(), None);
    let fitted = found.into_iter().zip(&inputs).enumerate().map(|(i, (gradient, input))| match (gradient, input) {
        (Some(gradient), Some(input)) if wanted[i] => unbroadcast(gradient, *input, &place).map(Some),
        (None, Some(input)) if wanted[i] && input.dtype().is_float() => Err(Error::unsupported(
            &place,
            format!("has no gradient with respect to its input {i}; make that a constant"),
        )),
        _ => Ok(None),
    });
    fitted.collect()
}

/// Returns `gradient` summed over every axis along which `input` was broadcast.
fn unbroadcast<'b>(gradient: Expr<'b>, input: Expr<'b>, place: &str) -> Result<Expr<'b>> {
    let (from, to) = (gradient.shape(), input.shape());
    if from == to {
        return Ok(gradient);
    }
    let extra = from.len().checked_sub(to.len());
    let fits = |extra: usize| from[extra..].iter().zip(&to).all(|(f, t)| f == t || *t == 1);
    let Some(extra) = extra.filter(|&extra| fits(extra)) else {
        return Err(Error::shape(place, format!("its rule gives a gradient of shape {from:?} for an input of {to:?}")));
    };
    let axes: Vec<usize> = (0..from.len()).filter(|&i| i < extra || (from[i] != 1 && to[i - extra] == 1)).collect();
    let sum = if axes.is_empty() { gradient } else { gradient.sum(&axes, true) };
    Ok(sum.reshape(&to))
}
