//! What a graph takes of memory, by its shapes alone: nothing is allocated. Sizes that are not known count as 1.

use super::{Fact, rules, with_call};
use crate::error::Result;
use crate::ir::{Graph, Node, ValueId, peak_bytes};

/// Elements of a type that is not known count as float32.
const BITS: usize = 32;
/// What a node makes of initializers may be so many times as large as these: weights are unpacked from a few bits.
const UNPACKING: usize = 16;

/// One tensor, and what wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// The input or the node, as messages name it.
    pub place: String,
    /// The bytes of the tensor, `usize::MAX` where there are more than that.
    pub bytes: usize,
}

/// What a graph takes of memory beside its initializers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footprint {
    /// The largest input.
    pub input: Option<Demand>,
    /// The largest result, or what a kernel unpacks; results of not many times the size of initializers that they are made
    /// from do not count.
    pub result: Option<Demand>,
    /// The most bytes of inputs and results at a time, nodes run in order.
    pub peak_bytes: usize,
    /// The bytes of inputs and initializers.
    pub given_bytes: usize,
}

/// Returns what one run of `graph` takes of memory, a batch of open size being 1.
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

/// The bytes of the largest tensor that a node makes or unpacks.
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
