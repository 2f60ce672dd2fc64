//! The memory of a graph, estimated from its shapes. Unknown sizes count as 1.

use super::{Fact, rules, with_call};
use crate::error::Result;
use crate::ir::{Graph, Node, ValueId, peak_bytes};

/// Bytes of an element of unknown type: those of float32.
const BITS: usize = 32;
/// The tolerated ratio of a result to the initializers it is computed from: weights are unpacked from few bits.
const UNPACKING: usize = 16;

/// One tensor and its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// The name of the input or node in messages.
    pub place: String,
    /// The bytes of the tensor, `usize::MAX` on overflow.
    pub bytes: usize,
}

/// The memory of a graph besides its initializers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footprint {
    /// The largest input.
    pub input: Option<Demand>,
    /// The largest result or unpacked kernel buffer; results computed from initializers count only if they are many
    /// times larger.
    pub result: Option<Demand>,
    /// The peak bytes of inputs and results when nodes run in order.
    pub peak_bytes: usize,
    /// The bytes of inputs and initializers.
    pub given_bytes: usize,
}

/// Returns the memory of one run of `graph`; an open batch counts as 1.
///
/// # Errors
/// Those of [`super::facts`].
pub fn footprint(graph: &Graph) -> Result<Footprint> {
    let facts = super::facts(graph)?;
    let bytes = |id: ValueId| tensor_bytes(&facts[id.index()]);
    let largest = |demands: &mut dyn Iterator<Item = Demand>| demands.max_by_key(|demand| demand.bytes);
    let place = |id: ValueId| format!("input \"{}\"", graph.name_of(id));
    let of_input = |id: ValueId| Demand { place: place(id), bytes: bytes(id) };
    let of_node = |node: &Node| Demand { place: graph.describe(node), bytes: node_bytes(graph, node, &facts) };
    let (input, result) =
        (largest(&mut graph.fed_inputs().into_iter().map(of_input)), largest(&mut graph.nodes.iter().map(of_node)));
    let peak_bytes = peak_bytes(graph, |id| if graph.constant_of(id).is_some() { 0 } else { bytes(id) });
    let constants = graph.value_ids().filter_map(|id| graph.constant_of(id)).map(|tensor| tensor.bytes().len());
    let given_bytes = graph.fed_inputs().into_iter().map(bytes).chain(constants).fold(0, usize::saturating_add);
    Ok(Footprint { input, result, peak_bytes, given_bytes })
}

/// Returns the bytes of the largest tensor that a node produces or unpacks.
fn node_bytes(graph: &Graph, node: &Node, facts: &[Fact]) -> usize {
    let bytes = |id: &ValueId| tensor_bytes(&facts[id.index()]);
    let unpacked = match node.domain.is_empty() {
        true => with_call(graph, node, facts, rules::unpacked),
        false => None,
    };
    let unpacked = unpacked.map_or(0, |elements| elements.saturating_mul(BITS / 8));
    let largest = node.outputs.iter().flatten().map(bytes).fold(unpacked, usize::max);
    let constants = node.inputs.iter().flatten().filter(|id| graph.constant_of(**id).is_some());
    let constants = constants.map(bytes).fold(0, usize::saturating_add);
    if largest <= constants.saturating_mul(UNPACKING) { 0 } else { largest }
}

fn tensor_bytes(fact: &Fact) -> usize {
    let Some(shape) = &fact.shape else { return 0 };
    let elements = shape.iter().map(|dim| dim.known().unwrap_or(1)).fold(1, usize::saturating_mul);
    let bits = fact.dtype.map_or(BITS, |dtype| dtype.bits());
    elements.saturating_mul(bits).div_ceil(8)
}
