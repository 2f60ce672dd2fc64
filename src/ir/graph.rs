//! `Graph`: an arena of values and a list of nodes in topological order.

use std::collections::HashMap;

use super::{Node, Tensor, Value, ValueId};
use crate::shown::escaped;

/// An imported operator set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorSet {
    /// The domain as the file writes it; none or empty for the default one.
    pub domain: Option<String>,
    /// The version.
    pub version: i64,
}

impl OperatorSet {
    fn is_default(&self) -> bool {
        matches!(self.domain.as_deref(), None | Some("" | "ai.onnx"))
    }
}

/// The metadata of a model file.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs)]
pub struct Metadata {
    pub producer_name: String,
    pub producer_version: String,
    pub domain: String,
    pub model_version: Option<i64>,
    pub doc: String,
    pub properties: Vec<(String, String)>,
    pub graph_doc: String,
    pub graph_properties: Vec<(String, String)>,
}

/// A model: one graph, its values and its operator sets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    /// The graph's name.
    pub name: String,
    /// The version of the file format.
    pub ir_version: i64,
    /// Every operator set that the file imports.
    pub opsets: Vec<OperatorSet>,
    /// The metadata of the file.
    pub metadata: Metadata,
    /// Nodes in topological order.
    pub nodes: Vec<Node>,
    /// Inputs in order, those that have a default (an initializer of the same name) included.
    pub inputs: Vec<ValueId>,
    /// Outputs in order.
    pub outputs: Vec<ValueId>,
    pub(super) values: Vec<Value>,
    names: HashMap<String, ValueId>,
}

impl Graph {
    /// Returns the version of the default operator set, 1 where the file names none.
    pub fn opset(&self) -> i64 {
        self.opsets.iter().find(|set| set.is_default()).map_or(1, |set| set.version)
    }

    /// Sets the version of the default operator set.
    pub fn set_opset(&mut self, version: i64) {
        match self.opsets.iter_mut().find(|set| set.is_default()) {
            Some(set) => set.version = version,
            None => self.opsets.insert(0, OperatorSet { domain: None, version }),
        }
    }

    /// Imports an operator set beside the default one, where it is not there yet.
    pub fn import(&mut self, domain: &str, version: i64) {
        if !self.opsets.iter().any(|set| set.domain.as_deref() == Some(domain)) {
            self.opsets.push(OperatorSet { domain: Some(domain.to_owned()), version });
        }
    }

    /// Returns the value of a handle.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.0]
    }

    /// Returns the value of a handle for changes.
    pub fn value_mut(&mut self, id: ValueId) -> &mut Value {
        &mut self.values[id.0]
    }

    /// Returns the name of a value.
    pub fn name_of(&self, id: ValueId) -> &str {
        &self.values[id.0].name
    }

    /// Returns the contents of an initializer.
    pub fn constant_of(&self, id: ValueId) -> Option<&Tensor> {
        self.values[id.0].constant.as_ref()
    }

    /// Returns the handle of the value called `name`.
    pub fn find(&self, name: &str) -> Option<ValueId> {
        self.names.get(name).copied()
    }

    /// Returns all handles in the order of their creation.
    pub fn value_ids(&self) -> impl Iterator<Item = ValueId> + use<> {
        (0..self.values.len()).map(ValueId)
    }

    /// Adds a value under `name`, or under `name_1`, `name_2`, … where that is taken.
    pub fn add_value(&mut self, name: &str) -> ValueId {
        let mut unique = name.to_owned();
        let mut suffix = 0;
        while unique.is_empty() || self.names.contains_key(&unique) {
            suffix += 1;
            unique = format!("{name}_{suffix}");
        }
        let id = ValueId(self.values.len());
        self.names.insert(unique.clone(), id);
        self.values.push(Value { name: unique, ..Value::default() });
        id
    }

    /// Returns the value called `name`, adding it where there is none.
    pub fn find_or_add(&mut self, name: &str) -> ValueId {
        self.find(name).unwrap_or_else(|| self.add_value(name))
    }

    /// Adds an initializer; the name is made unique as by [`Graph::add_value`].
    pub fn add_constant(&mut self, name: &str, tensor: Tensor) -> ValueId {
        let id = self.add_value(name);
        self.values[id.0].dtype = Some(tensor.dtype());
        self.values[id.0].constant = Some(tensor);
        id
    }

    /// Exchanges the names of two values, so that a new value can take over a name that the user knows.
    pub fn swap_names(&mut self, a: ValueId, b: ValueId) {
        let (name_a, name_b) = (self.values[a.0].name.clone(), self.values[b.0].name.clone());
        self.names.insert(name_a.clone(), b);
        self.names.insert(name_b.clone(), a);
        self.values[a.0].name = name_b;
        self.values[b.0].name = name_a;
    }

    /// Returns the inputs that a caller must feed (those without an initializer).
    pub fn fed_inputs(&self) -> Vec<ValueId> {
        let fed = |id: &&ValueId| self.values[id.0].constant.is_none();
        self.inputs.iter().filter(fed).copied().collect()
    }

    /// Returns the name of a node in reports: its own, else that of its first output.
    pub fn label<'a>(&'a self, node: &'a Node) -> &'a str {
        match (node.name.as_str(), node.output(0)) {
            ("", Some(output)) => self.name_of(output),
            (name, _) => name,
        }
    }

    /// Returns the fixed batch: the smallest known first axis of the inputs (that of a recurrent state, say, is not a
    /// batch); 1 if some inputs have an open first axis and others a fixed one.
    pub fn fixed_batch(&self) -> Option<usize> {
        let fed = self.fed_inputs();
        let firsts = || fed.iter().filter_map(|id| self.values[id.0].shape.as_ref()?.first());
        let smallest = firsts().filter_map(super::Dim::known).min();
        smallest.map(|n| if firsts().all(|dim| dim.known().is_some()) { n } else { 1 })
    }

    /// Returns the name of a node in messages: its name and operator, or its first output where it has no name.
    pub fn describe(&self, node: &Node) -> String {
        let name = match (node.name.as_str(), node.outputs.iter().flatten().next()) {
            ("", Some(&output)) => format!("producing \"{}\"", self.name_of(output)),
            (name, _) => format!("\"{name}\""),
        };
        escaped(&format!("node {name} ({})", node.op_type)).into_owned()
    }
}
