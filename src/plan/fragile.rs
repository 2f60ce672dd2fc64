//! Weights that keep 8 bits where others go lower: those of depthwise convolutions, whose few elements a channel leave
//! rounding errors no room to cancel, and the smallest others. The error of each quantized layer adds about as much
//! noise to the outputs, whatever its size, so that the smallest weights save the least for what they cost.

use std::collections::HashSet;

use super::is_layer;
use crate::ir::{Graph, Node, ValueId};

/// The share of all weight elements that the smallest weights may hold together.
const SHARE: f64 = 0.02;

/// Returns the fragile ones among the constant weights of `graph`.
pub(super) fn fragile(graph: &Graph) -> HashSet<ValueId> {
    let weight = |node: &Node| {
        let id = node.input(1).filter(|&id| is_layer(node) && graph.constant_of(id).is_some());
        id.map(|id| (id, is_depthwise(graph, node)))
    };
    let mut seen = HashSet::new();
    let weights: Vec<(ValueId, bool)> =
        graph.nodes.iter().filter_map(weight).filter(|(id, _)| seen.insert(*id)).collect();
    let len = |id: ValueId| graph.constant_of(id).map_or(0, |tensor| tensor.len());
    let all: usize = weights.iter().map(|(id, _)| len(*id)).sum();
    let mut fragile: HashSet<ValueId> = weights.iter().filter(|(_, depthwise)| *depthwise).map(|(id, _)| *id).collect();
    let mut others: Vec<ValueId> = weights.into_iter().filter(|(_, depthwise)| !depthwise).map(|(id, _)| id).collect();
    others.sort_by_key(|&id| len(id));
    let mut held = 0;
    for id in others {
        held += len(id);
        if held as f64 > SHARE * all as f64 {
            break;
        }
        fragile.insert(id);
    }
    fragile
}

/// Returns whether each output channel of a convolution reads one input channel among several.
fn is_depthwise(graph: &Graph, node: &Node) -> bool {
    let shape = node.input(1).and_then(|id| graph.constant_of(id)).map_or(&[][..], |tensor| tensor.shape());
    node.is("Conv") && node.attrs.int("group", 1) > 1 && shape.get(1) == Some(&1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{Attr, Tensor};

    #[test]
    fn depthwise_weights_and_the_smallest_ones_are_fragile() {
        let mut graph = Graph::default();
        let mut x = graph.add_value("x");
        let layers = [
            ("small", vec![8, 8, 1, 1], 1),
            ("depthwise", vec![64, 1, 3, 3], 64),
            ("grouped", vec![64, 32, 3, 3], 2),
            ("large", vec![128, 64, 3, 3], 1),
            ("next", vec![16, 16, 1, 1], 1),
        ];
        for (name, shape, group) in layers {
            let values = vec![0.5; shape.iter().product()];
            let (w, y) = (graph.add_constant(name, Tensor::from_f32(&shape, &values)), graph.add_value("y"));
            graph.nodes.push(Node::new("Conv", [x, w], [y], [("group", Attr::Int(group))]));
            x = y;
        }
        let fragile = fragile(&graph);
        let mut names: Vec<&str> = fragile.iter().map(|&id| graph.name_of(id)).collect();
        names.sort_unstable();
        assert_eq!(names, ["depthwise", "next", "small"]);
    }
}
