//! Bounds of results that hold for any network input.

use crate::ir::{Dim, Graph, Node, front_axis};

/// The fewest steps of a grid up to 1 for an even share of a Softmax: with more classes, nearly all results would round
/// to 0.
const STEPS_OF_A_SHARE: usize = 4;

/// Returns the interval between the two limits of a saturating operator's first result: a grid of `bits` bits that ends
/// before them would clip the most confident values.
pub fn output_bounds(graph: &Graph, node: &Node, bits: u32) -> Option<[f32; 2]> {
    match node.op_type.as_str() {
        "Sigmoid" | "HardSigmoid" => Some([0.0, 1.0]),
        "Tanh" | "Softsign" | "Erf" => Some([-1.0, 1.0]),
        "Softmax" => (shares(graph, node)?.saturating_mul(STEPS_OF_A_SHARE) <= 1 << bits).then_some([0.0, 1.0]),
        _ => None,
    }
}

/// Returns the bounds of the first result of `node`, if any, for operators whose bounds the moments do not include
/// (those of Relu and Clip they do).
pub fn output_limits(node: &Node) -> [Option<f32>; 2] {
    match node.op_type.as_str() {
        "Sigmoid" | "HardSigmoid" | "Softmax" => [Some(0.0), Some(1.0)],
        "Tanh" | "Softsign" | "Erf" => [Some(-1.0), Some(1.0)],
        "Softplus" | "Abs" => [Some(0.0), None],
        // The least value of x·clip(x/6 + 1/2, 0, 1), at -3/2.
        "HardSwish" => [Some(-0.375), None],
        "Gelu" => [Some(-0.170_04), None],
        "Mish" => [Some(-0.308_85), None],
        "Elu" => [Some(-node.attrs.float("alpha", 1.0).abs()), None],
        _ => [None, None],
    }
}

/// Returns the bounds of a Clip of floats, infinite where it has none; `None` for other operators and for bounds
/// computed at run time.
pub fn clip_bounds(graph: &Graph, node: &Node) -> Option<[f32; 2]> {
    let bound = |i: usize, name: &str, open: f32| match node.input(i) {
        Some(id) => graph.constant_of(id).filter(|t| t.len() == 1)?.to_f32().ok()?.first().copied(),
        None => Some(node.attrs.float(name, open)),
    };
    let bounds = [bound(1, "min", f32::NEG_INFINITY)?, bound(2, "max", f32::INFINITY)?];
    node.is("Clip").then_some(bounds)
}

/// Returns the number of classes of a Softmax.
fn shares(graph: &Graph, node: &Node) -> Option<usize> {
    let shape = graph.value(node.input(0)?).shape.as_ref()?;
    let axis = front_axis(node.attrs.int("axis", -1), shape.len())?;
    shape.get(axis).and_then(Dim::known)
}
