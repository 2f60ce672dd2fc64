//! Lowering: replaces operators of a finished graph by those that a runtime runs, with one rule per operator.

mod blocked;
mod channels;
mod convolution;
mod ort_cpu;
mod standard;

pub use blocked::NCHWC;
pub use ort_cpu::{KEEP_WHERE, KERNELS, ort_cpu};
pub use standard::STANDARD;

use super::own::OWN_DOMAIN;
use super::{Builder, Expr};
use crate::error::{Error, Result};
use crate::ir::{Attrs, Graph, Node, ValueId};
use blocked::Value;

/// The results of the replacement of a call, in order; `None` where the call stays.
type Results<'b> = Result<Option<Vec<Value<'b>>>>;

type LoweringRule = for<'b> fn(&Lowered<'_, 'b>) -> Results<'b>;

/// The rules of a runtime.
#[derive(Clone, Copy, Debug)]
pub struct Lowering {
    /// Domain, operator and rule.
    rules: &'static [(&'static str, &'static str, LoweringRule)],
    /// Channels of a block in blocked tensors; 1 without blocked kernels.
    block: usize,
}

/// One call to be lowered.
#[derive(Debug)]
struct Lowered<'a, 'b> {
    /// Its name in messages.
    place: &'a str,
    node: &'a Node,
    /// The graph that it belongs to.
    graph: &'a Graph,
    /// Its inputs; `None` where an optional one is left out.
    inputs: &'a [Option<Value<'b>>],
    /// The shapes of its results.
    shapes: &'a [Vec<usize>],
    builder: &'b Builder,
    block: usize,
}

impl<'b> Lowered<'_, 'b> {
    /// Returns input `i` in any layout.
    fn value(&self, i: usize) -> Result<&Value<'b>> {
        let found = self.inputs.get(i).and_then(Option::as_ref);
        found.ok_or_else(|| Error::unsupported(self.place, format!("input {i} is missing")))
    }

    /// Returns the optional input `i` in plain layout.
    fn optional(&self, i: usize) -> Option<Expr<'b>> {
        Some(self.inputs.get(i)?.as_ref()?.plain())
    }

    /// Returns input `i` in plain layout.
    fn x(&self, i: usize) -> Result<Expr<'b>> {
        Ok(self.value(i)?.plain())
    }

    fn attrs(&self) -> &Attrs {
        &self.node.attrs
    }

    /// Returns the only result of the same call on other inputs.
    fn again(&self, inputs: &[Option<Expr<'b>>]) -> Expr<'b> {
        let node = Node { inputs: Vec::new(), outputs: Vec::new(), ..self.node.clone() };
        self.builder.call_at(self.place, node, inputs, 1)[0]
    }
}

impl Lowering {
    /// Returns the channels of a block in blocked tensors; 1 without blocked kernels.
    pub fn block(&self) -> usize {
        self.block
    }

    /// Returns `graph` with every operator that has a rule replaced. Names of inputs stay, names of other values may
    /// change; outputs keep their order.
    ///
    /// # Errors
    /// For our own operators without a rule; those of the rules.
    pub(super) fn lower(&self, graph: &Graph) -> Result<Graph> {
        let builder = Builder::new(&graph.name);
        let mut made: Vec<Option<Value>> = vec![None; graph.value_ids().count()];
        for &id in &graph.inputs {
            let value = graph.value(id);
            let (Some(dtype), Some(shape)) = (value.dtype, value.static_shape()) else {
                return Err(Error::shape(format!("input \"{}\"", value.name()), "its type or shape is not known"));
            };
            made[id.index()] = Some(builder.input(value.name(), dtype, &shape).into());
        }
        for node in &graph.nodes {
            let mut inputs = Vec::with_capacity(node.inputs.len());
            for id in &node.inputs {
                inputs.push(id.map(|id| read(&builder, graph, id, &mut made)).transpose()?);
            }
            let results = self.node(&builder, graph, node, &inputs)?;
            for (id, result) in node.outputs.iter().zip(results) {
                if let Some(id) = *id {
                    made[id.index()] = Some(result);
                }
            }
        }
        let mut outputs = Vec::with_capacity(graph.outputs.len());
        for &id in &graph.outputs {
            outputs.push(read(&builder, graph, id, &mut made)?.plain());
        }
        builder.built(&outputs)
    }

    fn node<'b>(
        &self,
        builder: &'b Builder,
        graph: &Graph,
        node: &Node,
        inputs: &[Option<Value<'b>>],
    ) -> Result<Vec<Value<'b>>> {
        let place = graph.describe(node);
        let rule = self.rules.iter().find(|(domain, op_type, _)| node.domain == *domain && node.op_type == *op_type);
        if let Some((_, _, rule)) = rule {
            let shape = |id: &Option<ValueId>| id.and_then(|id| graph.value(id).static_shape()).unwrap_or_default();
            let shapes: Vec<Vec<usize>> = node.outputs.iter().map(shape).collect();
            let call = Lowered { place: &place, node, graph, inputs, shapes: &shapes, builder, block: self.block };
            if let Some(results) = rule(&call)? {
                return Ok(results);
            }
        }
        if node.domain == OWN_DOMAIN {
            return Err(Error::unsupported(place, "the lowering has no rule for it"));
        }
        let bare = Node { inputs: Vec::new(), outputs: Vec::new(), ..node.clone() };
        let inputs: Vec<Option<Expr>> = inputs.iter().map(|value| value.as_ref().map(Value::plain)).collect();
        Ok(builder.call_at(&place, bare, &inputs, node.outputs.len()).into_iter().map(Value::from).collect())
    }
}

fn read<'b>(builder: &'b Builder, graph: &Graph, id: ValueId, made: &mut [Option<Value<'b>>]) -> Result<Value<'b>> {
    let value = graph.value(id);
    if made[id.index()].is_none() {
        let Some(tensor) = &value.constant else {
            return Err(Error::malformed(format!("tensor \"{}\"", value.name()), "is made by no node"));
        };
        made[id.index()] = Some(builder.constant(value.name(), tensor.clone()).into());
    }
    made[id.index()].clone().ok_or_else(|| Error::malformed(value.name(), "is made by no node"))
}
