//! Copies weights that several layers share, as ONNX Runtime's non-saturating kernels require (1.31 replaces each such
//! weight and fails on the second replacement).

use crate::ir::{Graph, ValueId, is_dequantize};

/// Returns `graph` with separate integers, zero point and DequantizeLinear for every reader of a dequantized weight;
/// results are the same.
pub(super) fn unshared(graph: &Graph) -> Graph {
    let mut graph = graph.clone();
    let weights: Vec<usize> = (0..graph.nodes.len())
        .filter(|&i| {
            let node = &graph.nodes[i];
            is_dequantize(node) && node.input(0).is_some_and(|id| graph.constant_of(id).is_some())
        })
        .collect();
    let mut seen: Vec<ValueId> = Vec::new();
    let mut copies = Vec::new();
    for at in weights {
        let node = graph.nodes[at].clone();
        let Some(y) = node.output(0) else { continue };
        for i in [0, 2] {
            let Some(id) = node.input(i) else { continue };
            if seen.contains(&id) {
                graph.nodes[at].inputs[i] = copy_of(&mut graph, id);
            }
            seen.push(id);
        }
        let readers: Vec<(usize, usize)> = (0..graph.nodes.len())
            .flat_map(|n| (0..graph.nodes[n].inputs.len()).map(move |i| (n, i)))
            .filter(|&(n, i)| graph.nodes[n].input(i) == Some(y))
            .collect();
        for (reader, input) in readers.into_iter().skip(1) {
            let mut copy = node.clone();
            let made = graph.add_value(graph.name_of(y).to_owned().as_str());
            (graph.value_mut(made).dtype, graph.value_mut(made).shape) =
                (graph.value(y).dtype, graph.value(y).shape.clone());
            for i in [0, 2] {
                if let Some(id) = node.input(i) {
                    copy.inputs[i] = copy_of(&mut graph, id);
                }
            }
            copy.outputs = vec![Some(made)];
            copy.name = graph.name_of(made).to_owned();
            graph.nodes[reader].inputs[input] = Some(made);
            copies.push(copy);
        }
    }
    // They read constants alone, and stand before what reads them.
    copies.append(&mut graph.nodes);
    graph.nodes = copies;
    graph
}

fn copy_of(graph: &mut Graph, id: ValueId) -> Option<ValueId> {
    let (name, tensor) = (graph.name_of(id).to_owned(), graph.constant_of(id)?.clone());
    Some(graph.add_constant(&name, tensor))
}
