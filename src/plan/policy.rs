//! The user's request, and the names that select nodes.

use regex::Regex;

use super::{Container, FloatActivations, Target, is_layer};
use crate::error::{Error, Result};
use crate::ir::{Graph, Node, nearest_names};

/// The user's request.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The target of the file.
    pub target: Target,
    /// Bits of weights, 2 to 8.
    pub weight_bits: u32,
    /// Bits of layer inputs, 2 to 8.
    pub activation_bits: u32,
    /// Whether weights have one scale per output channel.
    pub per_channel: bool,
    /// Whether weights have zero point 0.
    pub symmetric: bool,
    /// Whether the first and the last layer get the requested bits instead of 8.
    pub all_layers: bool,
    /// Names (or patterns that match whole names) of nodes that stay float.
    pub exclude: Vec<String>,
    /// Operators that stay float.
    pub exclude_ops: Vec<String>,
    /// Bits of single layers by name or pattern; for each of weight and input a full name wins over patterns, else the
    /// first that gives it.
    pub layer_bits: Vec<(String, LayerBits)>,
    /// The container of weights of 4 bits and below.
    pub container: Container,
    /// Whether weights have at most 7 bits, so that x86 processors without VNNI do not saturate.
    pub reduce_range: bool,
    /// Whether operands of residual sums get the bits of layer inputs instead of 8.
    pub shared_shortcuts: bool,
    /// Which activations stay in floating point.
    pub float_activations: FloatActivations,
}

/// Bits of one layer where they differ from the others'.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LayerBits {
    /// Bits of its weight.
    pub weight: Option<u32>,
    /// Bits of its input.
    pub input: Option<u32>,
}

impl LayerBits {
    /// Returns the same bits for weight and input.
    pub fn both(bits: u32) -> Self {
        Self { weight: Some(bits), input: Some(bits) }
    }

    /// Returns bits for the weight alone.
    pub fn weight(bits: u32) -> Self {
        Self { weight: Some(bits), input: None }
    }
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
            container: Container::Auto,
            reduce_range: false,
            shared_shortcuts: false,
            float_activations: FloatActivations::None,
        }
    }
}

/// Checks that the target supports the request.
///
/// # Errors
/// [`Error::Usage`] naming the unsupported part and an alternative.
pub(super) fn validate(policy: &Policy) -> Result<()> {
    let (name, choices) = (policy.target.name(), policy.target.choices());
    let refused = |message: String| Err(Error::Usage(format!("--target {name}: {message}")));
    let fewest = choices.fewest_activation_bits;
    if policy.activation_bits < fewest {
        let (w, a) = (policy.weight_bits, policy.activation_bits);
        return refused(format!(
            "{a}-bit activations were requested, the target supports {fewest} bits or more; use --precision w{w}a{fewest}, \
             or --target onnx"
        ));
    }
    let mut own = policy.layer_bits.iter().filter_map(|(layer, bits)| Some((layer, bits.input?)));
    if let Some((layer, bits)) = own.find(|(_, bits)| *bits < fewest) {
        return refused(format!(
            "--layer-bits {layer}={bits} requests {bits}-bit activations, the target supports {fewest} bits or more; use \
             --precision w{bits}a{fewest} for the weights of all layers, or --target onnx"
        ));
    }
    if !policy.symmetric && !choices.affine_weights {
        return refused("weights have zero point 0 there; leave out --affine".to_owned());
    }
    if policy.reduce_range && !choices.runs_on_x86 {
        return refused("--reduce-range helps only x86 processors without VNNI; leave it out".to_owned());
    }
    if policy.container == Container::Int4 && choices.packs.is_empty() {
        return refused("it has no 4-bit type; use --container int8, or --target onnx".to_owned());
    }
    Ok(())
}

/// A user's pattern: an exact name, or a regular expression for the whole name.
pub(super) struct Pattern {
    pub(super) typed: String,
    regex: Option<Regex>,
}

impl Pattern {
    pub(super) fn new(typed: &str) -> Self {
        Self { typed: typed.to_owned(), regex: Regex::new(&format!("^(?:{typed})$")).ok() }
    }

    pub(super) fn matches(&self, graph: &Graph, node: &Node) -> bool {
        let fits = |name: &str| name == self.typed || self.regex.as_ref().is_some_and(|r| r.is_match(name));
        names(graph, node).any(fits)
    }

    /// Returns whether this is a full name of the node or of its result.
    pub(super) fn is_name_of(&self, graph: &Graph, node: &Node) -> bool {
        names(graph, node).any(|name| name == self.typed)
    }
}

fn names<'a>(graph: &'a Graph, node: &'a Node) -> impl Iterator<Item = &'a str> {
    let outputs = node.outputs.iter().flatten().map(|&id| graph.name_of(id));
    std::iter::once(node.name.as_str()).chain(outputs).filter(|name| !name.is_empty())
}

/// Returns the bits that are given to one part of a layer.
pub(super) fn own_bits(
    graph: &Graph,
    node: &Node,
    layer_bits: &[(Pattern, LayerBits)],
    part: impl Fn(&LayerBits) -> Option<u32>,
) -> Option<u32> {
    let given = || layer_bits.iter().filter_map(|(pattern, bits)| Some((pattern, part(bits)?)));
    let by_name = given().find(|(pattern, _)| pattern.is_name_of(graph, node));
    by_name.or_else(|| given().find(|(pattern, _)| pattern.matches(graph, node))).map(|(_, bits)| bits)
}

/// Checks that every given name selects a node, or a layer if it sets bits.
///
/// # Errors
/// [`Error::Usage`] naming the first that does not, and similar names.
pub(super) fn refuse_unmatched(
    graph: &Graph,
    exclude: &[Pattern],
    layer_bits: &[(Pattern, LayerBits)],
    exclude_ops: &[String],
) -> Result<()> {
    let all: Vec<&Node> = graph.nodes.iter().collect();
    let layers: Vec<&Node> = graph.nodes.iter().filter(|node| is_layer(node)).collect();
    let refuse = |pattern: &Pattern, nodes: &[&Node], what: &str| {
        if nodes.iter().any(|node| pattern.matches(graph, node)) {
            return Ok(());
        }
        let typed = &pattern.typed;
        let nearest = nearest_names(typed, nodes.iter().map(|node| graph.label(node)));
        Err(Error::Usage(format!(
            "\"{typed}\" matches no {what}; nearest: {nearest}; `dfq-onnx inspect` lists the layers by name"
        )))
    };
    exclude.iter().try_for_each(|pattern| refuse(pattern, &all, "node"))?;
    layer_bits.iter().try_for_each(|(pattern, _)| refuse(pattern, &layers, "layer"))?;
    match exclude_ops.iter().find(|op| !graph.nodes.iter().any(|node| node.op_type == **op)) {
        Some(op) => {
            let present: std::collections::BTreeSet<&str> = graph.nodes.iter().map(|n| n.op_type.as_str()).collect();
            let present: Vec<&str> = present.into_iter().collect();
            Err(Error::Usage(format!("no node is a \"{op}\"; what is left to quantize has {}", present.join(", "))))
        }
        None => Ok(()),
    }
}
