//! Shape inference: element types, shapes and small integer contents, forward over the nodes. One rule per operator
//! family in [`RULES`]; an operator without a rule has unknown outputs. Only small integer tensors are computed.

mod bodies;
mod call;
mod dims;
mod fact;
mod footprint;
mod rules;
mod window;

pub use call::{Axes, Call};
pub use fact::{CONTENTS_MAX, Contents, Fact, Item};
pub use footprint::{Demand, Footprint, footprint};
pub use rules::{RULES, Rule, constant_value};
pub use window::{ConvWindow, is_padded};

use crate::error::Result;
use crate::ir::{Dim, Graph, Node, Shape, ValueId};

/// Fills the element type and shape of every value where they follow from the graph inputs and the constants.
///
/// Where nothing follows, the file's declaration stays. Unknown sizes are [`Dim::Unknown`], unknown ranks `None`.
///
/// # Errors
/// [`crate::Error::Shape`] naming the node whose inputs cannot go together.
pub fn infer(graph: &mut Graph) -> Result<()> {
    let facts = facts(graph)?;
    for (id, fact) in graph.value_ids().zip(facts) {
        let value = graph.value_mut(id);
        value.dtype = fact.dtype.or(value.dtype);
        if let Some(shape) = fact.shape {
            let declared = value.shape.take();
            value.shape = Some(without_own_symbols(shape, declared.as_ref()));
        }
    }
    Ok(())
}

/// Returns the fact of every value, by [`ValueId::index`].
///
/// Each unknown size gets its own symbol (beginning with `?`), so it can be recognized after Shape, Gather and Concat.
///
/// # Errors
/// As [`infer`].
pub fn facts(graph: &Graph) -> Result<Vec<Fact>> {
    let mut facts = vec![Fact::default(); graph.value_ids().count()];
    for id in graph.value_ids() {
        if let Some(tensor) = graph.constant_of(id) {
            facts[id.index()] = Fact::of_tensor(tensor);
        }
    }
    for id in graph.fed_inputs() {
        let value = graph.value(id);
        let fact = Fact { dtype: value.dtype, shape: value.shape.clone(), ..Fact::default() };
        facts[id.index()] = named(graph, id, fact);
    }
    for node in &graph.nodes {
        let outputs = outputs_of(graph, node, &facts)?;
        for (i, id) in node.outputs.iter().enumerate() {
            let Some(id) = *id else { continue };
            let fact = outputs.get(i).cloned().unwrap_or_default();
            facts[id.index()] = named(graph, id, with_declared(graph, id, fact));
        }
    }
    Ok(facts)
}

/// Returns the facts of a call's outputs by the operator's rule, none where there is no rule.
///
/// # Errors
/// [`crate::Error::Shape`] when the inputs cannot go together.
pub fn apply(call: &Call) -> Result<Vec<Fact>> {
    match RULES.iter().find(|row| row.0 == call.op_type) {
        Some((_, rule)) => rule(call),
        None => Ok(Vec::new()),
    }
}

fn outputs_of(graph: &Graph, node: &Node, facts: &[Fact]) -> Result<Vec<Fact>> {
    if !node.domain.is_empty() {
        return Ok(Vec::new());
    }
    if node.bodies().next().is_some() {
        return Ok(bodies::outputs_of_bodies(node));
    }
    with_call(graph, node, facts, apply)
}

/// Applies `work` to the call of `node`.
fn with_call<T>(graph: &Graph, node: &Node, facts: &[Fact], work: impl FnOnce(&Call) -> T) -> T {
    let inputs: Vec<Option<&Fact>> = node.inputs.iter().map(|id| id.map(|id| &facts[id.index()])).collect();
    work(&Call {
        place: &graph.describe(node),
        op_type: &node.op_type,
        attrs: &node.attrs,
        inputs: &inputs,
        outputs: node.outputs.len(),
        opset: graph.opset(),
    })
}

/// Completes a fact with declared numbers; declared symbols are not used, since one name may stand for different sizes.
fn with_declared(graph: &Graph, id: ValueId, mut fact: Fact) -> Fact {
    let value = graph.value(id);
    fact.dtype = fact.dtype.or(value.dtype);
    let Some(declared) = &value.shape else { return fact };
    let numbers = || declared.iter().map(|d| d.known().map_or(Dim::Unknown, Dim::Known));
    match &mut fact.shape {
        None => fact.shape = Some(numbers().collect()),
        Some(shape) if shape.len() == declared.len() => {
            for (dim, number) in shape.iter_mut().zip(numbers()) {
                if *dim == Dim::Unknown {
                    *dim = number;
                }
            }
        }
        Some(_) => {}
    }
    fact
}

const OWN: char = '?';

fn named(graph: &Graph, id: ValueId, mut fact: Fact) -> Fact {
    for (axis, dim) in fact.shape.iter_mut().flatten().enumerate() {
        if *dim == Dim::Unknown {
            *dim = Dim::Symbol(format!("{OWN}{}.{axis}", graph.name_of(id)));
        }
    }
    fact
}

fn without_own_symbols(shape: Shape, declared: Option<&Shape>) -> Shape {
    let declared = declared.filter(|d| d.len() == shape.len());
    let one = |(axis, dim): (usize, Dim)| match dim {
        Dim::Symbol(name) if name.starts_with(OWN) => declared.map_or(Dim::Unknown, |d| d[axis].clone()),
        dim => dim,
    };
    shape.into_iter().enumerate().map(one).collect()
}
