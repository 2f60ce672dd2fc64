//! `Graph`: an arena of values and a list of nodes in topological order.

use std::collections::HashMap;

use super::{Attr, Attrs, DType, Tensor};
use crate::error::{Error, Result};

/// One dimension of a shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dim {
    /// A number.
    Known(usize),
    /// A name such as `N`; equal names are equal sizes.
    Symbol(String),
    /// Nothing is known.
    Unknown,
}

impl Dim {
    /// Returns the number where it is one.
    pub fn known(&self) -> Option<usize> {
        match self {
            Self::Known(n) => Some(*n),
            _ => None,
        }
    }
}

impl std::fmt::Display for Dim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Known(n) => write!(f, "{n}"),
            Self::Symbol(s) => f.write_str(s),
            Self::Unknown => f.write_str("?"),
        }
    }
}

/// The dimensions of a value whose rank is known.
pub type Shape = Vec<Dim>;

/// A handle of a value in the arena of its graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(usize);

impl ValueId {
    /// Returns the position in the arena, for tables that run beside it.
    pub fn index(self) -> usize {
        self.0
    }
}

/// One edge of the graph: an input, an initializer, or the output of a node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Value {
    name: String,
    /// The element type, where declared or inferred.
    pub dtype: Option<DType>,
    /// The shape, where its rank is declared or inferred.
    pub shape: Option<Shape>,
    /// The contents, for initializers.
    pub constant: Option<Tensor>,
    /// Whether the file declares the value under `value_info`.
    pub declared: bool,
    /// `doc_string` of the declaration or of the initializer.
    pub doc: String,
}

impl Value {
    /// Returns the name, unique in its graph.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the dimensions as numbers, where all are known.
    pub fn static_shape(&self) -> Option<Vec<usize>> {
        if let Some(constant) = &self.constant {
            return Some(constant.shape().to_vec());
        }
        self.shape.as_ref()?.iter().map(Dim::known).collect()
    }
}

/// One operator call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    /// The node's name; may be empty.
    pub name: String,
    /// The operator, as in the specification.
    pub op_type: String,
    /// The operator set; empty for the default one.
    pub domain: String,
    /// Inputs in order; `None` where an optional one is left out.
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

    /// Returns the integer list attribute `name`.
    pub fn ints(&self, name: &str) -> Option<&[i64]> {
        self.attrs.ints(name)
    }

    /// Sets attribute `name`.
    pub fn set(&mut self, name: &str, value: impl Into<Attr>) {
        self.attrs.set(name, value);
    }
}

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

/// What a model file says beside its graph.
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
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// The graph's name.
    pub name: String,
    /// The version of the file format.
    pub ir_version: i64,
    /// Every operator set that the file imports.
    pub opsets: Vec<OperatorSet>,
    /// What the file says beside the graph.
    pub metadata: Metadata,
    /// Nodes in topological order.
    pub nodes: Vec<Node>,
    /// Inputs in order, those that have a default (an initializer of the same name) included.
    pub inputs: Vec<ValueId>,
    /// Outputs in order.
    pub outputs: Vec<ValueId>,
    values: Vec<Value>,
    names: HashMap<String, ValueId>,
}

/// Who makes and who reads each value; a snapshot of the graph it was made from.
#[derive(Debug)]
pub struct Uses {
    producer: Vec<Option<usize>>,
    consumers: Vec<Vec<usize>>,
    is_output: Vec<bool>,
}

impl Uses {
    /// Returns the index of the node that makes `value`.
    pub fn producer(&self, value: ValueId) -> Option<usize> {
        self.producer[value.0]
    }

    /// Returns the indices of the nodes that read `value`, once per use.
    pub fn consumers(&self, value: ValueId) -> &[usize] {
        &self.consumers[value.0]
    }

    /// Returns whether `value` is an output of the graph.
    pub fn is_output(&self, value: ValueId) -> bool {
        self.is_output[value.0]
    }

    /// Returns the only reader of `value`, `None` where there is another use of any kind.
    pub fn only_consumer(&self, value: ValueId) -> Option<usize> {
        match self.consumers(value) {
            [only] if !self.is_output(value) => Some(*only),
            _ => None,
        }
    }
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

    /// Returns the value behind a handle.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.0]
    }

    /// Returns the value behind a handle for changes.
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

    /// Returns all handles in the order in which their values came to be.
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

    /// Returns how a message names a node: its name and operator, or its first output where it has no name.
    pub fn describe(&self, node: &Node) -> String {
        let name = match (node.name.as_str(), node.outputs.iter().flatten().next()) {
            ("", Some(&output)) => format!("producing \"{}\"", self.name_of(output)),
            (name, _) => format!("\"{name}\""),
        };
        format!("node {name} ({})", node.op_type)
    }

    /// Returns who makes and who reads each value.
    pub fn uses(&self) -> Uses {
        let mut uses = Uses {
            producer: vec![None; self.values.len()],
            consumers: vec![Vec::new(); self.values.len()],
            is_output: vec![false; self.values.len()],
        };
        for (i, node) in self.nodes.iter().enumerate() {
            for id in node.inputs.iter().flatten() {
                uses.consumers[id.0].push(i);
            }
            for id in node.outputs.iter().flatten() {
                uses.producer[id.0] = Some(i);
            }
        }
        for id in &self.outputs {
            uses.is_output[id.0] = true;
        }
        uses
    }

    /// Makes every reader of `old`, graph outputs included, read `new`.
    pub fn replace_uses(&mut self, old: ValueId, new: ValueId) {
        for id in self.nodes.iter_mut().flat_map(|n| n.inputs.iter_mut()).flatten() {
            if *id == old {
                *id = new;
            }
        }
        for id in &mut self.outputs {
            if *id == old {
                *id = new;
            }
        }
    }

    /// Removes nodes whose results nobody reads, then initializers that nobody reads.
    pub fn sweep(&mut self) {
        let mut live = vec![false; self.values.len()];
        for id in &self.outputs {
            live[id.0] = true;
        }
        let mut keep = vec![false; self.nodes.len()];
        for (i, node) in self.nodes.iter().enumerate().rev() {
            keep[i] = node.outputs.iter().flatten().any(|id| live[id.0]);
            if keep[i] {
                for id in node.inputs.iter().flatten() {
                    live[id.0] = true;
                }
            }
        }
        let mut keep = keep.into_iter();
        self.nodes.retain(|_| keep.next().unwrap_or(true));
        let produced: Vec<ValueId> = self.nodes.iter().flat_map(|n| n.outputs.iter().flatten().copied()).collect();
        for id in produced {
            live[id.0] = true;
        }
        let values = &self.values;
        self.inputs.retain(|id| live[id.0] || values[id.0].constant.is_none());
        for (value, live) in self.values.iter_mut().zip(&live) {
            if !live {
                value.constant = None;
                value.declared = false;
            }
        }
    }

    /// Sorts the nodes topologically, keeping their order where it already is one.
    ///
    /// # Errors
    /// When a value is made twice or nodes form a cycle; names the value, or nodes on the cycle.
    pub fn sort(&mut self) -> Result<()> {
        super::check::one_source(self)?;
        let uses = self.uses();
        let mut waiting: Vec<usize> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            waiting.push(node.inputs.iter().flatten().filter(|id| uses.producer(**id).is_some()).count());
        }
        let mut ready: std::collections::BTreeSet<usize> = (0..self.nodes.len()).filter(|&i| waiting[i] == 0).collect();
        let mut order = Vec::with_capacity(self.nodes.len());
        while let Some(i) = ready.pop_first() {
            order.push(i);
            for id in self.nodes[i].outputs.iter().flatten() {
                for &reader in uses.consumers(*id) {
                    waiting[reader] -= 1;
                    if waiting[reader] == 0 {
                        ready.insert(reader);
                    }
                }
            }
        }
        if order.len() < self.nodes.len() {
            let stuck: Vec<String> = (0..self.nodes.len())
                .filter(|&i| waiting[i] > 0)
                .take(4)
                .map(|i| self.describe(&self.nodes[i]))
                .collect();
            return Err(Error::malformed(
                format!("graph \"{}\"", self.name),
                format!("nodes form a cycle: {}", stuck.join(", ")),
            ));
        }
        let mut nodes: Vec<Option<Node>> = std::mem::take(&mut self.nodes).into_iter().map(Some).collect();
        self.nodes = order.into_iter().filter_map(|i| nodes[i].take()).collect();
        Ok(())
    }
}
