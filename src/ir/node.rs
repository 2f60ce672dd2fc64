//! Operator calls.

use super::{Attr, Attrs, Body, ValueId};

/// One operator call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    /// The node's name; may be empty.
    pub name: String,
    /// The operator, as in the specification.
    pub op_type: String,
    /// The operator set; empty for the default one.
    pub domain: String,
    /// Inputs in order; `None` where an optional one is left out. Behind those that the file lists come the values that
    /// the node's [`Body`] graphs capture.
    pub inputs: Vec<Option<ValueId>>,
    /// Outputs in order; `None` where an optional one is left out.
    pub outputs: Vec<Option<ValueId>>,
    /// Attributes in order.
    pub attrs: Attrs,
    /// `doc_string`.
    pub doc: String,
    /// `metadata_props`.
    pub metadata: Vec<(String, String)>,
}

impl Node {
    /// Returns a node of the default domain.
    pub fn new(
        op_type: &str,
        inputs: impl IntoIterator<Item = ValueId>,
        outputs: impl IntoIterator<Item = ValueId>,
        attrs: impl Into<Attrs>,
    ) -> Self {
        Self {
            op_type: op_type.to_owned(),
            inputs: inputs.into_iter().map(Some).collect(),
            outputs: outputs.into_iter().map(Some).collect(),
            attrs: attrs.into(),
            ..Self::default()
        }
    }

    /// Returns whether this is `op_type` of the default domain.
    pub fn is(&self, op_type: &str) -> bool {
        self.domain.is_empty() && self.op_type == op_type
    }

    /// Returns input `i` where it is given.
    pub fn input(&self, i: usize) -> Option<ValueId> {
        self.inputs.get(i).copied().flatten()
    }

    /// Returns output `i` where it is given.
    pub fn output(&self, i: usize) -> Option<ValueId> {
        self.outputs.get(i).copied().flatten()
    }

    /// Returns the graphs that the node runs, with the attributes that hold them.
    pub fn bodies(&self) -> impl Iterator<Item = (&str, &Body)> {
        self.attrs.iter().filter_map(|(name, attr)| match attr {
            Attr::Graph(body) => Some((name, &**body)),
            _ => None,
        })
    }

    /// Returns the graphs that the node runs, for changes.
    pub fn bodies_mut(&mut self) -> impl Iterator<Item = &mut Body> {
        self.attrs.iter_mut().filter_map(|(_, attr)| match attr {
            Attr::Graph(body) => Some(&mut **body),
            _ => None,
        })
    }

    /// Returns how many of the inputs the file lists; the others are captured by bodies.
    pub fn listed_inputs(&self) -> usize {
        let captured = self.bodies().flat_map(|(_, body)| body.captures.iter().copied());
        captured.min().unwrap_or(self.inputs.len())
    }

    /// Returns the inputs that the file lists, for changes.
    pub fn listed_inputs_mut(&mut self) -> std::slice::IterMut<'_, Option<ValueId>> {
        let listed = self.listed_inputs();
        self.inputs[..listed].iter_mut()
    }

    /// Returns the integer list attribute `name`.
    pub fn ints(&self, name: &str) -> Option<&[i64]> {
        self.attrs.ints(name)
    }

    /// Sets attribute `name`.
    pub fn set(&mut self, name: &str, value: impl Into<Attr>) {
        self.attrs.set(name, value);
    }
}
