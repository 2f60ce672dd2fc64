//! Inlines a model into a graph under construction.

use std::collections::HashMap;

use super::{Builder, Expr, OPSET};
use crate::error::{Error, Result};
use crate::ir::{Graph, Node, ValueId};

/// The expressions of an inlined model.
#[derive(Debug)]
pub struct Inlined<'b> {
    /// The model's outputs in order.
    pub outputs: Vec<Expr<'b>>,
    /// Every tensor of the model that is needed, as its readers see it.
    pub tensors: HashMap<ValueId, Expr<'b>>,
}

/// Returns the expressions of `graph` on `inputs` (in the order of [`Graph::fed_inputs`]).
///
/// `tap` receives every input, every weight and every node result with its name, once each and in the order of the
/// nodes. It returns the expression that readers use: the same one, or a replacement such as a trained weight or a
/// fake-quantized tensor.
///
/// # Errors
/// [`Error::Unsupported`] for an operator set other than [`OPSET`] (raise it with [`crate::onnx::upgrade`]) and for
/// operators of other domains; [`Error::Shape`] when `inputs` do not fit. Nodes of the model whose shapes are not
/// fixed, or do not fit each other at this batch, are reported by [`Builder::finish`] as [`Error::Unsupported`].
pub fn inline<'b>(
    builder: &'b Builder,
    graph: &Graph,
    inputs: &[Expr<'b>],
    tap: &mut dyn FnMut(&str, Expr<'b>) -> Expr<'b>,
) -> Result<Inlined<'b>> {
    if graph.opset() != OPSET {
        let message = format!("its operator set is {}, expected {OPSET}; upgrade the graph first", graph.opset());
        return Err(Error::unsupported("model", message));
    }
    let fed = graph.fed_inputs();
    if fed.len() != inputs.len() {
        return Err(Error::shape("model", format!("takes {} inputs, {} were given", fed.len(), inputs.len())));
    }
    let mut tensors = HashMap::new();
    for (&id, &expr) in fed.iter().zip(inputs) {
        check_input(graph, id, expr)?;
        tensors.insert(id, tap(graph.name_of(id), expr));
    }
    for node in &graph.nodes {
        inline_node(builder, graph, node, &mut tensors, tap)?;
    }
    let output = |id: &ValueId| constant_or(builder, graph, *id, &mut tensors, tap);
    let outputs = graph.outputs.iter().map(output).collect::<Result<_>>()?;
    Ok(Inlined { outputs, tensors })
}

type Tensors<'b> = HashMap<ValueId, Expr<'b>>;
type Tap<'t, 'b> = &'t mut dyn FnMut(&str, Expr<'b>) -> Expr<'b>;

fn inline_node<'b>(
    builder: &'b Builder,
    graph: &Graph,
    node: &Node,
    tensors: &mut Tensors<'b>,
    tap: Tap<'_, 'b>,
) -> Result<()> {
    let place = graph.describe(node);
    if !node.domain.is_empty() {
        let message = format!("operators of \"{}\" cannot be trained; use a recipe that does not train", node.domain);
        return Err(Error::unsupported(place, message));
    }
    let read = |id: &Option<ValueId>| id.map(|id| constant_or(builder, graph, id, tensors, tap)).transpose();
    let inputs = node.inputs.iter().map(read).collect::<Result<Vec<_>>>()?;
    let name = graph.label(node).to_owned();
    let bare = Node { name, inputs: Vec::new(), outputs: Vec::new(), ..node.clone() };
    let wanted = node.outputs.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
    let results = builder.call_of_model(&place, bare, &inputs, wanted);
    for (id, result) in node.outputs.iter().zip(results) {
        if let Some(id) = *id {
            tensors.insert(id, tap(graph.name_of(id), result));
        }
    }
    Ok(())
}

fn constant_or<'b>(
    builder: &'b Builder,
    graph: &Graph,
    id: ValueId,
    tensors: &mut Tensors<'b>,
    tap: Tap<'_, 'b>,
) -> Result<Expr<'b>> {
    if let Some(&known) = tensors.get(&id) {
        return Ok(known);
    }
    let name = graph.name_of(id);
    let Some(tensor) = graph.constant_of(id) else {
        return Err(Error::malformed(format!("tensor \"{name}\""), "is made by no node"));
    };
    let expr = tap(name, builder.constant(name, tensor.clone()));
    tensors.insert(id, expr);
    Ok(expr)
}

fn check_input(graph: &Graph, id: ValueId, given: Expr) -> Result<()> {
    let value = graph.value(id);
    let (shape, declared) = (given.shape(), value.shape.as_deref().unwrap_or_default());
    let same_rank = value.shape.is_none() || declared.len() == shape.len();
    let fits = same_rank && declared.iter().zip(&shape).all(|(d, &n)| d.known().is_none_or(|d| d == n));
    if fits && value.dtype.is_none_or(|dtype| dtype == given.dtype()) {
        return Ok(());
    }
    let place = format!("input \"{}\"", value.name());
    Err(Error::shape(place, format!("{} {shape:?} does not fit what the model declares", given.dtype())))
}
