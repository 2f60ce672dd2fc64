//! Blocks of a network: subgraphs with one input and one output tensor, trained one after the other.

use serde::Serialize;

use super::Feed;
use crate::data;
use crate::error::{Error, Result};
use crate::expr::{Builder, Expr};
use crate::ir::{DType, Dim, Graph, Node, ValueId};
use crate::plan::is_layer;

/// The least number of layers of a block, where the network has as many: alone, a depthwise layer has no other layer to
/// compensate its rounding errors.
const LAYERS: usize = 2;

/// A subgraph whose paths all enter by one tensor and leave by one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Block {
    /// The name of the input tensor.
    pub input: String,
    /// The name of the output tensor.
    pub output: String,
}

/// Returns the blocks of `graph` in order, between the inputs and `target`. Cuts are at tensors with samples along axis
/// 0 that lie on every path; each block has at least two layers where the network has as many.
///
/// With several inputs, the first block starts where all of them have joined; a network without such a tensor has no
/// blocks.
pub fn blocks(graph: &Graph, target: ValueId) -> Vec<Block> {
    let cuts = cuts(graph, Some(target));
    let mut blocks: Vec<(Block, usize)> = Vec::new();
    for pair in cuts.windows(2) {
        let layers = graph.nodes[pair[0].place..pair[1].place].iter().filter(|node| is_layer(node)).count();
        let name = |cut: &Cut| graph.name_of(cut.tensor).to_owned();
        match blocks.last_mut() {
            // A part without a layer, and a part after a block of too few layers, joins the block before it.
            Some((last, before)) if layers == 0 || *before < LAYERS => {
                last.output = name(&pair[1]);
                *before += layers;
            }
            _ => blocks.push((Block { input: name(&pair[0]), output: name(&pair[1]) }, layers)),
        }
    }
    blocks.into_iter().filter(|(_, layers)| *layers > 0).map(|(block, _)| block).collect()
}

/// Returns the subgraph that computes the block's output from its input.
///
/// # Errors
/// When the graph lacks these tensors.
pub fn segment(graph: &Graph, block: &Block) -> Result<Graph> {
    let found = |name: &str| {
        let missing = || Error::Plan(format!("the network has no tensor \"{name}\" for a block to end at"));
        graph.find(name).ok_or_else(missing)
    };
    let (input, _) = (found(&block.input)?, found(&block.output)?);
    let mut part = graph.clone();
    part.nodes.retain(|node| !node.outputs.contains(&Some(input)));
    part.inputs = vec![input];
    part.cut(&[&block.output]);
    Ok(part)
}

/// Returns the inputs of `graph` for `batch` samples.
///
/// # Errors
/// An input of unknown shape.
pub(super) fn inputs_on<'b>(builder: &'b Builder, graph: &Graph, batch: usize) -> Result<Vec<Expr<'b>>> {
    let feeds = input_feeds(graph, batch)?;
    Ok(feeds.iter().map(|feed| builder.input(&feed.name, feed.dtype, &feed.shape)).collect())
}

/// Returns the inputs of `graph` for `batch` samples, in the order of [`Graph::fed_inputs`].
///
/// # Errors
/// An input of unknown shape.
pub fn input_feeds(graph: &Graph, batch: usize) -> Result<Vec<Feed>> {
    let feed = |id| {
        let (name, dtype) = (graph.name_of(id).to_owned(), graph.value(id).dtype.unwrap_or(DType::F32));
        Ok(Feed { name, dtype, shape: data::input_shape(graph, id, batch)? })
    };
    graph.fed_inputs().into_iter().map(feed).collect()
}

/// A tensor that lies on every path.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// The tensor.
    pub tensor: ValueId,
    /// The number of nodes before its consumers.
    pub place: usize,
}

/// Returns the float32 tensors with samples along axis 0 that lie on every path from the inputs to `target`, or on every
/// path between nodes where there is none.
pub fn cuts(graph: &Graph, target: Option<ValueId>) -> Vec<Cut> {
    let follows = followers(graph);
    let mut last_use = vec![0; follows.len()];
    for (place, node) in graph.nodes.iter().enumerate() {
        node.inputs.iter().flatten().for_each(|id| last_use[id.index()] = place + 1);
    }
    if let Some(target) = target {
        last_use[target.index()] = usize::MAX;
    }
    let samples = graph.fed_inputs().first().and_then(|&id| first_dim(graph, id));
    let mut open: Vec<ValueId> = graph.fed_inputs();
    let mut cuts: Vec<Cut> = Vec::new();
    let mut note = |open: &[ValueId], place: usize| {
        if let &[tensor] = open
            && first_dim(graph, tensor) == samples
            && graph.value(tensor).dtype.is_none_or(|dtype| dtype == DType::F32)
            && cuts.last().is_none_or(|cut| cut.tensor != tensor)
        {
            cuts.push(Cut { tensor, place });
        }
    };
    note(&open, 0);
    for (place, node) in graph.nodes.iter().enumerate() {
        open.extend(node.outputs.iter().flatten().filter(|id| follows[id.index()] && last_use[id.index()] > 0));
        open.retain(|id| last_use[id.index()] > place + 1);
        if !is_quantizer(node) {
            note(&open, place + 1);
        }
        if target.is_some_and(|target| open == [target]) {
            break;
        }
    }
    cuts
}

fn first_dim(graph: &Graph, tensor: ValueId) -> Option<Dim> {
    graph.value(tensor).shape.as_ref()?.first().cloned()
}

/// A quantizer belongs to the consumers of its output.
fn is_quantizer(node: &Node) -> bool {
    node.is("Identity")
}

/// Returns which values depend on a fed input.
fn followers(graph: &Graph) -> Vec<bool> {
    let mut follows = vec![false; graph.value_ids().count()];
    graph.fed_inputs().into_iter().for_each(|id| follows[id.index()] = true);
    for node in &graph.nodes {
        if node.inputs.iter().flatten().any(|id| follows[id.index()]) {
            node.outputs.iter().flatten().for_each(|id| follows[id.index()] = true);
        }
    }
    follows
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Operator, inputs and output.
    type Call<'a> = (&'a str, &'a [&'a str], &'a str);

    fn found(inputs: &[&str], nodes: &[Call], target: &str) -> Vec<(String, String)> {
        let mut graph = Graph::default();
        graph.inputs = inputs.iter().map(|name| graph.find_or_add(name)).collect();
        for (op, inputs, output) in nodes {
            let inputs: Vec<ValueId> = inputs.iter().map(|name| graph.find_or_add(name)).collect();
            let output = graph.find_or_add(output);
            graph.nodes.push(Node::new(op, inputs, [output], []));
        }
        let target = graph.find(target).unwrap();
        blocks(&graph, target).into_iter().map(|block| (block.input, block.output)).collect()
    }

    #[test]
    fn a_network_is_cut_where_every_path_goes_through_one_tensor() {
        type Case<'a> = (&'a str, &'a [&'a str], &'a [Call<'a>], &'a [(&'a str, &'a str)]);
        let residual: &[Call] = &[
            ("Conv", &["x", "w0"], "c0"),
            ("Conv", &["c0", "w1"], "r0"),
            ("Conv", &["r0", "w2"], "c1"),
            ("Conv", &["c1", "w3"], "c2"),
            ("Add", &["c2", "r0"], "s"),
            ("Relu", &["s"], "r1"),
            ("Gemm", &["r1", "w4"], "y"),
        ];
        let quantized: &[Call] = &[
            ("Conv", &["x", "w0"], "a"),
            ("Conv", &["a", "w1"], "b"),
            ("Identity", &["b"], "b_q"),
            ("Conv", &["b_q", "w2"], "c"),
            ("Conv", &["c", "w3"], "y"),
        ];
        let cases: &[Case] = &[
            ("residual", &["x"], residual, &[("x", "r0"), ("r0", "r1"), ("r1", "y")]),
            ("a quantizer goes with its readers", &["x"], quantized, &[("x", "b"), ("b", "y")]),
            ("one layer", &["x"], &[("Gemm", &["x", "w"], "y")], &[("x", "y")]),
            ("nothing to train", &["x"], &[("Relu", &["x"], "y")], &[]),
            (
                "two inputs that never meet before the end",
                &["x", "z"],
                &[("Conv", &["x", "w"], "a"), ("Conv", &["z", "v"], "b"), ("Add", &["a", "b"], "y")],
                &[],
            ),
        ];
        let mut failed = Vec::new();
        for (name, inputs, nodes, expected) in cases {
            let made = found(inputs, nodes, "y");
            let expected: Vec<(String, String)> =
                expected.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
            if made != expected {
                failed.push(format!("{name}: {made:?}"));
            }
        }
        assert!(failed.is_empty(), "{failed:#?}");
    }
}
