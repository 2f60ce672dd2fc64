//! Running a graph whose weights are many piece by piece, so that an engine's own copy of them never exists as a whole.

use std::collections::HashMap;

use super::{Engine, Session, SessionOptions};
use crate::error::{Error, Result};
use crate::ir::{Dim, Graph, Node, Tensor, ValueId};
use crate::onnx;

/// Weights of one piece, in bytes as float32 (tract unpacks integers to it), where memory is to be bounded.
pub const PIECE_BYTES: usize = 128 << 20;
/// A graph is loaded whole up to this many times the weights of a piece.
const WHOLE: usize = 4;

/// Returns the weights of one piece where `options` ask for pieces and `graph` has so many weights that a copy of all of
/// them is worth avoiding.
pub(super) fn piece_bytes(graph: &Graph, options: &SessionOptions) -> Option<usize> {
    let constants = graph.value_ids().filter_map(|id| graph.constant_of(id));
    let total = constants.map(float_bytes).fold(0, usize::saturating_add);
    options.piece_bytes.filter(|bytes| total > bytes.saturating_mul(WHOLE))
}

/// Returns a session that loads each piece of `graph` when a run comes to it and drops it again.
///
/// Results are those of the whole graph where engines compute node by node; what an engine would have fused across a
/// border stays apart. A refused node shows when the run comes to it.
pub(super) fn in_pieces(
    engine: impl Engine + 'static,
    graph: &Graph,
    options: &SessionOptions,
    limit: usize,
) -> Box<dyn Session> {
    Box::new(Pieces::new(Box::new(engine), graph, options, limit))
}

struct Pieces {
    engine: Box<dyn Engine>,
    options: SessionOptions,
    graph: Graph,
    /// Indices of each piece's first node and of the one behind its last.
    pieces: Vec<(usize, usize)>,
    /// The last piece that reads a value; the number of pieces for graph outputs.
    last_use: HashMap<ValueId, usize>,
    /// Per value, whether it depends on the contents of what is fed; shapes are known when a run begins.
    varies: Vec<bool>,
}

impl Pieces {
    fn new(engine: Box<dyn Engine>, graph: &Graph, options: &SessionOptions, limit: usize) -> Self {
        let pieces = split(graph, limit);
        let mut last_use = HashMap::new();
        for (i, &(start, end)) in pieces.iter().enumerate() {
            last_use.extend(graph.nodes[start..end].iter().flat_map(reads).map(|id| (id, i)));
        }
        last_use.extend(graph.outputs.iter().map(|&id| (id, pieces.len())));
        let mut varies = vec![false; graph.value_ids().count()];
        graph.fed_inputs().iter().for_each(|id| varies[id.index()] = true);
        for node in &graph.nodes {
            let any = !node.is("Shape") && !node.is("Size") && reads(node).any(|id| varies[id.index()]);
            node.outputs.iter().flatten().for_each(|id| varies[id.index()] = any);
        }
        let options = SessionOptions { piece_bytes: None, ..options.clone() };
        Self { engine, options, graph: graph.clone(), pieces, last_use, varies }
    }

    /// The nodes of piece `index` as a graph that takes what `known` has and gives what later pieces read.
    fn piece(&self, index: usize, known: &HashMap<ValueId, Tensor>) -> Graph {
        let (start, end) = self.pieces[index];
        let mut piece = self.graph.clone();
        piece.nodes = self.graph.nodes[start..end].to_vec();
        let mut inputs: Vec<ValueId> = piece.nodes.iter().flat_map(reads).filter(|id| known.contains_key(id)).collect();
        inputs.sort_unstable_by_key(|id| id.index());
        inputs.dedup();
        for &id in &inputs {
            let value = piece.value_mut(id);
            value.dtype = Some(known[&id].dtype());
            value.shape = Some(known[&id].shape().iter().map(|&n| Dim::Known(n)).collect());
            // Engines want some operands constant, which they were in the whole graph.
            value.constant = (!self.varies[id.index()]).then(|| known[&id].clone());
        }
        inputs.retain(|id| self.varies[id.index()]);
        let made = piece.nodes.iter().flat_map(|node| node.outputs.iter().flatten().copied());
        let outlives = |id: &ValueId| self.last_use.get(id).is_some_and(|&last| last > index);
        (piece.inputs, piece.outputs) = (inputs, made.filter(outlives).collect());
        for id in piece.value_ids() {
            piece.value_mut(id).declared = false;
        }
        piece.sweep();
        piece
    }

    /// Adds to what is `known` of each batch what piece `index` makes of it, and drops what no later piece reads.
    fn run_piece(&self, index: usize, known: &mut [HashMap<ValueId, Tensor>]) -> Result<()> {
        let mut loaded: Option<(Graph, Box<dyn Session>)> = None;
        for known in known {
            let piece = self.piece(index, known);
            let fits = |graph: &Graph| known.keys().all(|&id| graph.value(id) == piece.value(id));
            if !loaded.as_ref().is_some_and(|(graph, _)| fits(graph)) {
                drop(loaded.take());
            }
            let (piece, session) = match &mut loaded {
                Some(loaded) => loaded,
                None => {
                    let session = self.engine.load(&piece, &self.options)?;
                    loaded.insert((piece, session))
                }
            };
            let fed: Vec<Tensor> = piece.inputs.iter().map(|id| known[id].clone()).collect();
            let made = session.run(&fed)?;
            known.extend(piece.outputs.iter().copied().zip(made));
            known.retain(|id, _| self.last_use.get(id).is_some_and(|&last| last > index));
        }
        Ok(())
    }
}

impl Session for Pieces {
    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let mut made = self.run_each(&[inputs.to_vec()])?;
        Ok(made.pop().expect("one batch gives one result"))
    }

    /// Every piece is loaded once for all batches of one shape.
    fn run_each(&mut self, batches: &[Vec<Tensor>]) -> Result<Vec<Vec<Tensor>>> {
        let fed = self.graph.fed_inputs();
        if let Some(inputs) = batches.iter().find(|inputs| inputs.len() != fed.len()) {
            let message = format!("expected {} inputs, found {}", fed.len(), inputs.len());
            return Err(Error::runtime(self.engine.name(), message));
        }
        let start = |inputs: &Vec<Tensor>| fed.iter().copied().zip(inputs.iter().cloned()).collect();
        let mut known: Vec<HashMap<ValueId, Tensor>> = batches.iter().map(start).collect();
        for index in 0..self.pieces.len() {
            self.run_piece(index, &mut known)?;
            onnx::release_pages();
        }
        let output = |known: &HashMap<ValueId, Tensor>| -> Option<Vec<Tensor>> {
            let one = |id: &ValueId| known.get(id).or_else(|| self.graph.constant_of(*id)).cloned();
            self.graph.outputs.iter().map(one).collect()
        };
        let outputs: Option<Vec<_>> = known.iter().map(output).collect();
        outputs.ok_or_else(|| Error::runtime(self.engine.name(), "an output of the graph is made by no node"))
    }
}

fn reads(node: &Node) -> impl Iterator<Item = ValueId> {
    node.inputs.iter().flatten().copied()
}

/// Returns stretches of nodes with `limit` bytes of weights each; a node with more is alone.
fn split(graph: &Graph, limit: usize) -> Vec<(usize, usize)> {
    let (mut pieces, mut start, mut held) = (Vec::new(), 0, 0usize);
    for (i, node) in graph.nodes.iter().enumerate() {
        let own = reads(node).filter_map(|id| graph.constant_of(id)).map(float_bytes).fold(0, usize::saturating_add);
        if i > start && held.saturating_add(own) > limit {
            pieces.push((start, i));
            (start, held) = (i, 0);
        }
        held = held.saturating_add(own);
    }
    pieces.push((start, graph.nodes.len()));
    pieces
}

fn float_bytes(tensor: &Tensor) -> usize {
    tensor.bytes().len().max(tensor.len().saturating_mul(4))
}
