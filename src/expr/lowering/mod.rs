//! From what was built to what a runtime runs: one rule for each operator that it does not run as it stands.

mod standard;

pub use standard::STANDARD;

use super::own::OWN_DOMAIN;
use super::{Builder, Expr};
use crate::error::{Error, Result};
use crate::ir::{Attrs, Graph, Node, ValueId};

/// What a rule puts in place of one call: its results, in order.
pub type LoweringRule = for<'b> fn(&Lowered<'_, 'b>) -> Result<Vec<Expr<'b>>>;

/// A way of writing a graph.
#[derive(Clone, Copy, Debug)]
pub struct Lowering {
    /// Domain, operator and rule.
    pub rules: &'static [(&'static str, &'static str, LoweringRule)],
}

/// One call that others take the place of.
#[derive(Debug)]
pub struct Lowered<'a, 'b> {
    /// How a message names it.
    pub place: &'a str,
    /// Its attributes.
    pub attrs: &'a Attrs,
    /// Its inputs; `None` where an optional one is left out.
    pub inputs: &'a [Option<Expr<'b>>],
    /// What is being written.
    pub builder: &'b Builder,
}

impl<'b> Lowered<'_, 'b> {
    /// Returns input `i`.
    ///
    /// # Errors
    /// When it is left out.
    pub fn x(&self, i: usize) -> Result<Expr<'b>> {
        let found = self.inputs.get(i).copied().flatten();
        found.ok_or_else(|| Error::unsupported(self.place, format!("input {i} is missing")))
    }
}

impl Lowering {
    /// Returns `graph` with every operator that has a rule replaced by what the rule makes. Names of inputs stay, those of
    /// other values may change; outputs keep their order.
    ///
    /// # Errors
    /// An operator of ours without a rule; what a rule refuses.
    pub(super) fn lower(&self, graph: &Graph) -> Result<Graph> {
        let builder = Builder::new(&graph.name);
        let mut made: Vec<Option<Expr>> = vec![None; graph.value_ids().count()];
        for &id in &graph.inputs {
            let value = graph.value(id);
            let (Some(dtype), Some(shape)) = (value.dtype, value.static_shape()) else {
                return Err(Error::shape(format!("input \"{}\"", value.name()), "its type or shape is not known"));
            };
            made[id.index()] = Some(builder.input(value.name(), dtype, &shape));
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
        let outputs =
            graph.outputs.iter().map(|&id| read(&builder, graph, id, &mut made)).collect::<Result<Vec<_>>>()?;
        builder.built(&outputs)
    }

    fn node<'b>(
        &self,
        builder: &'b Builder,
        graph: &Graph,
        node: &Node,
        inputs: &[Option<Expr<'b>>],
    ) -> Result<Vec<Expr<'b>>> {
        let place = graph.describe(node);
        let rule = self.rules.iter().find(|(domain, op_type, _)| node.domain == *domain && node.op_type == *op_type);
        match rule {
            Some((_, _, rule)) => rule(&Lowered { place: &place, attrs: &node.attrs, inputs, builder }),
            None if node.domain == OWN_DOMAIN => Err(Error::unsupported(place, "the lowering has no rule for it")),
            None => {
                let bare = Node { inputs: Vec::new(), outputs: Vec::new(), ..node.clone() };
                Ok(builder.call_at(&place, bare, inputs, node.outputs.len()))
            }
        }
    }
}

fn read<'b>(builder: &'b Builder, graph: &Graph, id: ValueId, made: &mut [Option<Expr<'b>>]) -> Result<Expr<'b>> {
    let value = graph.value(id);
    match (made[id.index()], &value.constant) {
        (Some(found), _) => Ok(found),
        (None, Some(tensor)) => {
            let found = builder.constant(value.name(), tensor.clone());
            made[id.index()] = Some(found);
            Ok(found)
        }
        (None, None) => Err(Error::malformed(format!("tensor \"{}\"", value.name()), "is made by no node")),
    }
}
