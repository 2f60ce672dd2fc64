//! The argument of an adapter: one node of the graph, and the constants and nodes added around it.

use half::f16;

use crate::error::{Error, Result};
use crate::ir::{Attr, Attrs, DType, Graph, Node, Tensor, ValueId};

/// A node that is being rewritten to the version of its operator in opset `version`.
pub(super) struct Site<'g> {
    pub(super) graph: &'g mut Graph,
    index: usize,
    version: i64,
    before: Vec<Node>,
    after: Vec<Node>,
}

impl<'g> Site<'g> {
    pub(super) fn new(graph: &'g mut Graph, index: usize, version: i64) -> Self {
        Self { graph, index, version, before: Vec::new(), after: Vec::new() }
    }

    /// Returns the nodes to put before and after the rewritten one.
    pub(super) fn into_new_nodes(self) -> (Vec<Node>, Vec<Node>) {
        (self.before, self.after)
    }

    pub(super) fn node(&self) -> &Node {
        &self.graph.nodes[self.index]
    }

    pub(super) fn node_mut(&mut self) -> &mut Node {
        &mut self.graph.nodes[self.index]
    }

    /// Returns input `i`, or the error that it is missing.
    pub(super) fn input(&self, i: usize) -> Result<ValueId> {
        self.node().input(i).ok_or_else(|| self.malformed(format!("input {i} is missing")))
    }

    /// Sets input `i`, leaving out those between it and the last one.
    pub(super) fn set_input(&mut self, i: usize, id: ValueId) {
        let inputs = &mut self.node_mut().inputs;
        if inputs.len() <= i {
            inputs.resize(i + 1, None);
        }
        inputs[i] = Some(id);
    }

    /// Removes input `i`, and its initializer if nothing else reads it.
    pub(super) fn drop_input(&mut self, i: usize) {
        let Some(id) = self.node_mut().inputs.get_mut(i).and_then(Option::take) else { return };
        if !self.is_read(id) && self.graph.constant_of(id).is_some() {
            self.graph.value_mut(id).constant = None;
            self.graph.inputs.retain(|input| *input != id);
        }
    }

    /// Returns whether a node or the caller reads `id`.
    pub(super) fn is_read(&self, id: ValueId) -> bool {
        self.graph.outputs.contains(&id) || self.graph.nodes.iter().any(|n| n.inputs.contains(&Some(id)))
    }

    /// Adds an initializer named after the node's output and its `role`.
    pub(super) fn constant(&mut self, role: &str, tensor: Tensor) -> ValueId {
        let name = self.name(role);
        self.graph.add_constant(&name, tensor)
    }

    /// Adds a node that runs before this one and returns its output.
    pub(super) fn before(
        &mut self,
        role: &str,
        op: &str,
        inputs: impl IntoIterator<Item = ValueId>,
        attrs: impl Into<Attrs>,
    ) -> ValueId {
        let output = self.new_value(role);
        self.before.push(Node::new(op, inputs, [output], attrs));
        output
    }

    /// Adds a node that runs after this one.
    pub(super) fn after(&mut self, node: Node) {
        self.after.push(node);
    }

    /// Adds a value named after the node's output and its `role`.
    pub(super) fn new_value(&mut self, role: &str) -> ValueId {
        let name = self.name(role);
        self.graph.add_value(&name)
    }

    fn name(&self, role: &str) -> String {
        let output = self.node().outputs.iter().flatten().next();
        output.map_or_else(|| role.to_owned(), |&id| format!("{}_{role}", self.graph.name_of(id)))
    }

    /// Removes and returns an integer list attribute.
    pub(super) fn take_ints(&mut self, name: &str) -> Result<Option<Vec<i64>>> {
        match self.node_mut().attrs.remove(name) {
            None => Ok(None),
            Some(Attr::Ints(values)) => Ok(Some(values)),
            Some(_) => Err(self.malformed(format!("attribute \"{name}\" is not a list of integers"))),
        }
    }

    /// Removes and returns a float attribute.
    pub(super) fn take_float(&mut self, name: &str) -> Result<Option<f32>> {
        match self.node_mut().attrs.remove(name) {
            None => Ok(None),
            Some(Attr::Float(value)) => Ok(Some(value)),
            Some(_) => Err(self.malformed(format!("attribute \"{name}\" is not a float"))),
        }
    }

    /// Returns a scalar of `value` in the floating-point type of input 0.
    ///
    /// An undeclared type is float32 where the file mentions no other floating-point type.
    pub(super) fn scalar_like_input(&self, value: f32) -> Result<Tensor> {
        let node = self.node();
        let declared = [node.input(0), node.output(0)].into_iter().flatten().find_map(|id| self.graph.value(id).dtype);
        let dtype = match declared {
            Some(dtype) => dtype,
            None if mentions_other_floats(self.graph) => {
                return Err(self.refuse(
                    "the element type of its input is not declared and the file mixes several; add the types with \
                     onnx.shape_inference.infer_shapes",
                ));
            }
            None => DType::F32,
        };
        match dtype {
            DType::F32 => Ok(Tensor::from_f32(&[], &[value])),
            DType::F16 => Tensor::new(dtype, Vec::new(), f16::from_f32(value).to_le_bytes().to_vec().into()),
            DType::F64 => Tensor::new(dtype, Vec::new(), f64::from(value).to_le_bytes().to_vec().into()),
            other => Err(self.malformed(format!("expected a float16, float32 or float64 input, found {other}"))),
        }
    }

    /// Returns the error that a node has no counterpart in the new opset.
    pub(super) fn refuse(&self, message: impl std::fmt::Display) -> Error {
        let place = self.graph.describe(self.node());
        Error::unsupported(place, format!("from opset {} to {}: {message}", self.version - 1, self.version))
    }

    /// Returns the error that a node lacks what its operator requires.
    pub(super) fn malformed(&self, message: impl Into<String>) -> Error {
        Error::malformed(self.graph.describe(self.node()), message)
    }
}

fn mentions_other_floats(graph: &Graph) -> bool {
    let other = |dtype: Option<DType>| matches!(dtype, Some(DType::F16 | DType::F64 | DType::BF16));
    let in_attribute = |name: &str, attr: &Attr| match attr {
        Attr::Tensor(tensor) => other(Some(tensor.dtype())),
        Attr::Int(code) if name == "to" || name == "dtype" => {
            other(i32::try_from(*code).ok().and_then(DType::from_code))
        }
        _ => false,
    };
    graph.value_ids().any(|id| other(graph.value(id).dtype))
        || graph.nodes.iter().any(|node| node.attrs.iter().any(|(name, attr)| in_attribute(name, attr)))
}
