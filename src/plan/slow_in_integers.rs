//! Convolutions that ONNX Runtime's CPU kernels compute more slowly in integers than in floating point, and which of
//! them stay float. A float layer among integer layers costs more in conversions than it saves, so only layers that the
//! image reaches through float layers stay float. `benches/kernels.py` measures the limits.

use std::collections::{HashMap, HashSet};

use super::is_layer;
use crate::ir::{Graph, Node, ValueId};

/// The widest first layer and depthwise layer that stay float. Wider first layers lose the gain to conversions.
const FEW_CHANNELS: usize = 32;
/// Largest side of a kernel of a first layer that is kept float; beyond it the copies count less than the products.
const LARGEST_KERNEL: usize = 5;
/// Integer kernels read input channels by fours; other numbers are copied pixel by pixel first.
const CHANNELS_AT_ONCE: usize = 4;
/// Channels of depthwise layers that the fast integer kernel takes at once; other numbers go to one a third as fast.
const LANES: usize = 16;

/// A form of convolution that is slower in integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slow {
    /// A convolution of few channels whose input channels are no multiple of four.
    OddInput,
    /// A depthwise convolution of few channels.
    Depthwise,
    /// A depthwise convolution whose channels do not fill the kernel's lanes.
    UnevenDepthwise,
}

impl Slow {
    /// Returns why such a layer stays float, and how to quantize it anyway.
    pub fn why_kept(self) -> String {
        format!("{self}; --layer-bits NAME=8 quantizes it anyway")
    }
}

impl std::fmt::Display for Slow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::OddInput => write!(
                f,
                "ONNX Runtime's integer kernel is slower than its float one for convolutions of up to {FEW_CHANNELS} \
                 channels whose input channels are no multiple of {CHANNELS_AT_ONCE}"
            ),
            Self::Depthwise => write!(
                f,
                "ONNX Runtime's integer kernel is slower than its float one for depthwise convolutions of up to \
                 {FEW_CHANNELS} channels"
            ),
            Self::UnevenDepthwise => write!(
                f,
                "ONNX Runtime's integer kernel is slower than its float one for depthwise convolutions whose channels \
                 are not a multiple of {LANES}"
            ),
        }
    }
}

/// Returns why the node is slower in integers, for convolutions whose weight's shape is known.
pub fn slower_in_integers(graph: &Graph, node: &Node) -> Option<Slow> {
    let shape = node.is("Conv").then(|| graph.value(node.input(1)?).static_shape()).flatten()?;
    let [outputs, inputs, kernel @ ..] = shape.as_slice() else { return None };
    let groups = usize::try_from(node.attrs.int("group", 1)).ok()?;
    let pointwise = kernel.iter().all(|&k| k == 1);
    let few = *outputs <= FEW_CHANNELS;
    match (groups, inputs) {
        _ if pointwise => None,
        (1, inputs) if few && !inputs.is_multiple_of(CHANNELS_AT_ONCE) => {
            kernel.iter().all(|&k| k <= LARGEST_KERNEL).then_some(Slow::OddInput)
        }
        (2.., 1) if groups == *outputs && few => Some(Slow::Depthwise),
        (2.., 1) if groups == *outputs && !outputs.is_multiple_of(LANES) => Some(Slow::UnevenDepthwise),
        _ => None,
    }
}

/// Returns the indices of nodes that stay float for speed; empty if no layer would remain quantized. `excluded` names
/// layers that stay float anyway, `asked_for` layers that must be quantized.
pub(super) fn kept_float(
    graph: &Graph,
    excluded: impl Fn(&Node) -> bool,
    asked_for: impl Fn(&Node) -> bool,
) -> HashMap<usize, Slow> {
    let mut float: HashSet<ValueId> = graph.fed_inputs().into_iter().collect();
    let mut kept = HashMap::new();
    let mut left = 0;
    for (i, node) in graph.nodes.iter().enumerate() {
        let mut data = node.inputs.iter().flatten().filter(|&&id| graph.constant_of(id).is_none());
        if !data.all(|id| float.contains(id)) {
            left += usize::from(is_layer(node) && !excluded(node));
            continue;
        }
        match slower_in_integers(graph, node) {
            _ if !is_layer(node) || excluded(node) => {}
            Some(slow) if !asked_for(node) => {
                kept.insert(i, slow);
            }
            _ => {
                left += 1;
                continue;
            }
        }
        float.extend(node.outputs.iter().flatten());
    }
    if left == 0 { HashMap::new() } else { kept }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{Attr, Tensor};

    fn conv(graph: &mut Graph, x: ValueId, shape: &[usize], group: i64) -> ValueId {
        let values = vec![0.5; shape.iter().product()];
        let w = graph.add_constant("w", Tensor::from_f32(shape, &values));
        let y = graph.add_value("y");
        graph.nodes.push(Node::new("Conv", [x, w], [y], [("group", Attr::Int(group))]));
        y
    }

    fn network(layers: &[(&[usize], i64)]) -> Graph {
        let mut graph = Graph::default();
        let mut x = graph.add_value("x");
        graph.inputs.push(x);
        for (shape, group) in layers {
            x = conv(&mut graph, x, shape, *group);
        }
        graph.outputs.push(x);
        graph
    }

    #[test]
    fn only_layers_that_the_image_reaches_in_float_are_kept() {
        type Case = (&'static str, &'static [(&'static [usize], i64)], &'static [usize]);
        let cases: &[Case] = &[
            ("narrow first", &[(&[8, 3, 3, 3], 1), (&[16, 8, 1, 1], 1)], &[0]),
            ("wide first", &[(&[64, 3, 7, 7], 1), (&[16, 64, 1, 1], 1)], &[]),
            ("large kernel first", &[(&[8, 3, 7, 7], 1), (&[16, 8, 1, 1], 1)], &[]),
            ("first and depthwise", &[(&[8, 3, 3, 3], 1), (&[8, 1, 3, 3], 8), (&[16, 8, 1, 1], 1)], &[0, 1]),
            ("wide depthwise", &[(&[8, 3, 3, 3], 1), (&[64, 1, 3, 3], 64), (&[16, 64, 1, 1], 1)], &[0]),
            ("uneven depthwise", &[(&[8, 3, 3, 3], 1), (&[72, 1, 3, 3], 72), (&[16, 72, 1, 1], 1)], &[0, 1]),
            ("depthwise between integers", &[(&[64, 3, 3, 3], 1), (&[8, 64, 1, 1], 1), (&[8, 1, 3, 3], 8)], &[]),
            ("odd inputs further on", &[(&[8, 4, 3, 3], 1), (&[8, 7, 3, 3], 1)], &[]),
            ("pointwise first", &[(&[8, 3, 1, 1], 1), (&[16, 8, 1, 1], 1)], &[]),
            ("four input channels", &[(&[8, 4, 3, 3], 1), (&[16, 8, 1, 1], 1)], &[]),
            ("nothing else", &[(&[8, 3, 3, 3], 1)], &[]),
        ];
        let mut failed = Vec::new();
        for (name, layers, expected) in cases {
            let graph = network(layers);
            let mut kept: Vec<usize> = kept_float(&graph, |_| false, |_| false).into_keys().collect();
            kept.sort_unstable();
            if kept != *expected {
                failed.push(format!("{name}: {kept:?}"));
            }
        }
        assert!(failed.is_empty(), "{failed:?}");
    }

    #[test]
    fn what_the_user_says_of_a_layer_moves_the_border() {
        let layers: &[(&[usize], i64)] =
            &[(&[8, 3, 3, 3], 1), (&[32, 8, 1, 1], 1), (&[32, 1, 3, 3], 32), (&[8, 32, 1, 1], 1)];
        let graph = network(layers);
        let is = |i: usize| move |node: &Node| graph_node(layers, i) == *node;
        let excluded = kept_float(&graph, is(1), |_| false);
        assert_eq!(excluded, HashMap::from([(0, Slow::OddInput), (2, Slow::Depthwise)]));
        assert_eq!(kept_float(&graph, |_| false, is(0)), HashMap::new());
    }

    fn graph_node(layers: &[(&[usize], i64)], i: usize) -> Node {
        network(layers).nodes[i].clone()
    }
}
