//! What the user asked for, and the names that pick nodes.

use regex::Regex;

use super::Target;
use crate::ir::{Graph, Node};

/// What the user asked for.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Whom the file is for.
    pub target: Target,
    /// Bits of weights, 2 to 8.
    pub weight_bits: u32,
    /// Bits of layer inputs, 2 to 8.
    pub activation_bits: u32,
    /// Whether weights have one scale per output channel.
    pub per_channel: bool,
    /// Whether weights have zero point 0.
    pub symmetric: bool,
    /// Whether the first and the last layer get the bits asked for instead of 8.
    pub all_layers: bool,
    /// Names (or patterns that match whole names) of nodes that stay float.
    pub exclude: Vec<String>,
    /// Operators that stay float.
    pub exclude_ops: Vec<String>,
    /// Bits of single layers, weights and input, by name or pattern.
    pub layer_bits: Vec<(String, u32)>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            target: Target::Onnx,
            weight_bits: 8,
            activation_bits: 8,
            per_channel: true,
            symmetric: true,
            all_layers: false,
            exclude: Vec::new(),
            exclude_ops: Vec::new(),
            layer_bits: Vec::new(),
        }
    }
}

/// A pattern of the user's, by exact name or as a regular expression over the whole name.
pub(super) struct Pattern {
    pub(super) typed: String,
    regex: Option<Regex>,
}

impl Pattern {
    pub(super) fn new(typed: &str) -> Self {
        Self { typed: typed.to_owned(), regex: Regex::new(&format!("^(?:{typed})$")).ok() }
    }

    pub(super) fn matches(&self, graph: &Graph, node: &Node) -> bool {
        let outputs = node.outputs.iter().flatten().map(|&id| graph.name_of(id));
        std::iter::once(node.name.as_str()).chain(outputs).any(|name| {
            !name.is_empty() && (name == self.typed || self.regex.as_ref().is_some_and(|r| r.is_match(name)))
        })
    }
}
