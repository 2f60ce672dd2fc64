//! Runs a large graph in pieces, so that the engine never holds a copy of all weights.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::{Engine, Session, SessionOptions};
use crate::error::{Error, Result};
use crate::ir::{Dim, Graph, Node, Tensor, ValueId};
use crate::onnx;

/// Bytes of weights in one piece as float32 (to which tract unpacks integers), for bounded memory.
pub const PIECE_BYTES: usize = 128 << 20;
/// A graph of up to this many times a piece's limit is loaded whole.
const WHOLE: usize = 4;

/// The limits of one piece.
#[derive(Clone, Copy, Debug)]
pub(super) struct PieceLimits {
    /// Bytes of weights, as float32.
    pub bytes: usize,
    /// Nodes.
    pub nodes: usize,
}

/// Returns the limits of pieces if `options` ask for pieces and `graph` has many weights, or if it has more nodes than
/// the engine loads in reasonable time (then up to `nodes` per piece).
pub(super) fn piece_limits(graph: &Graph, options: &SessionOptions, nodes: Option<usize>) -> Option<PieceLimits> {
    let constants = graph.value_ids().filter_map(|id| graph.constant_of(id));
    let total = constants.map(float_bytes).fold(0, usize::saturating_add);
    let bytes = options.piece_bytes.filter(|bytes| total > bytes.saturating_mul(WHOLE));
    let nodes = nodes.filter(|nodes| graph.nodes.len() > nodes.saturating_mul(WHOLE));
    let limits = PieceLimits { bytes: bytes.unwrap_or(usize::MAX), nodes: nodes.unwrap_or(usize::MAX) };
    (bytes.is_some() || nodes.is_some()).then_some(limits)
}

/// Returns a session that loads each piece of `graph` during a run and drops it afterwards.
///
/// Results are those of the whole graph if the engine computes node by node; it cannot fuse nodes across pieces. A
/// refused node shows only during a run.
pub(super) fn in_pieces(
    engine: impl Engine + 'static,
    graph: &Graph,
    options: &SessionOptions,
    limits: PieceLimits,
) -> Box<dyn Session> {
    Box::new(Pieces::new(Box::new(engine), graph, options, limits))
}

struct Pieces {
    engine: Box<dyn Engine>,
    options: SessionOptions,
    fed: Vec<ValueId>,
    outputs: Vec<ValueId>,
    /// The outputs that are initializers.
    constants: HashMap<ValueId, Tensor>,
    pieces: Vec<Piece>,
    /// The last piece that reads a value; the number of pieces for graph outputs.
    last_use: HashMap<ValueId, usize>,
    /// Per value, whether it depends on the contents of inputs; shapes are known when a run begins.
    varies: Vec<bool>,
}

/// Consecutive nodes as a separate graph.
struct Piece {
    graph: Graph,
    /// Its inputs as values of the whole graph, in order, and their counterparts here.
    inputs: Vec<(ValueId, ValueId)>,
    /// Its outputs that later pieces read, as values of the whole graph.
    outputs: Vec<ValueId>,
}

impl Pieces {
    fn new(engine: Box<dyn Engine>, graph: &Graph, options: &SessionOptions, limits: PieceLimits) -> Self {
        let stretches = split(graph, limits);
        let mut last_use = HashMap::new();
        for (i, nodes) in stretches.iter().enumerate() {
            last_use.extend(graph.nodes[nodes.clone()].iter().flat_map(reads).map(|id| (id, i)));
        }
        last_use.extend(graph.outputs.iter().map(|&id| (id, stretches.len())));
        let mut varies = vec![false; graph.value_ids().count()];
        graph.fed_inputs().iter().for_each(|id| varies[id.index()] = true);
        for node in &graph.nodes {
            let any = !node.is("Shape") && !node.is("Size") && reads(node).any(|id| varies[id.index()]);
            node.outputs.iter().flatten().for_each(|id| varies[id.index()] = any);
        }
        let outlives = |index: usize, id: &ValueId| last_use.get(id).is_some_and(|&last| last > index);
        let piece = |(index, nodes): (usize, Range<usize>)| Piece::of(graph, nodes, &|id| outlives(index, id));
        let constant = |&id: &ValueId| Some((id, graph.constant_of(id)?.clone()));
        Self {
            engine,
            options: SessionOptions { piece_bytes: None, ..options.clone() },
            fed: graph.fed_inputs(),
            outputs: graph.outputs.clone(),
            constants: graph.outputs.iter().filter_map(constant).collect(),
            pieces: stretches.into_iter().enumerate().map(piece).collect(),
            last_use,
            varies,
        }
    }

    /// Adds the results of piece `index` to the `known` values of each batch, and drops those that no later piece
    /// reads.
    fn run_piece(&self, index: usize, known: &mut [HashMap<ValueId, Tensor>]) -> Result<()> {
        let piece = &self.pieces[index];
        let mut loaded: Option<(Graph, Box<dyn Session>)> = None;
        for known in known {
            let graph = piece.on(known, &self.varies)?;
            let fits = |other: &Graph| piece.inputs.iter().all(|&(_, own)| other.value(own) == graph.value(own));
            if !loaded.as_ref().is_some_and(|(graph, _)| fits(graph)) {
                drop(loaded.take());
            }
            let session = match &mut loaded {
                Some((_, session)) => session,
                None => {
                    let session = self.engine.load(&graph, &self.options)?;
                    &mut loaded.insert((graph, session)).1
                }
            };
            let varying = piece.inputs.iter().filter(|(id, _)| self.varies[id.index()]);
            let fed: Vec<Tensor> = varying.map(|(id, _)| known[id].clone()).collect();
            let made = session.run(&fed)?;
            known.extend(piece.outputs.iter().copied().zip(made));
            known.retain(|id, _| self.last_use.get(id).is_some_and(|&last| last > index));
        }
        Ok(())
    }
}

impl Piece {
    /// Returns `nodes` of `graph` as one piece; `outlives` tells which values later pieces read.
    fn of(graph: &Graph, nodes: Range<usize>, outlives: &dyn Fn(&ValueId) -> bool) -> Self {
        let (piece, own) = graph.part(nodes.clone());
        let nodes = &graph.nodes[nodes];
        let made: HashSet<ValueId> = nodes.iter().flat_map(|node| node.outputs.iter().flatten().copied()).collect();
        let taken = |id: &ValueId| !made.contains(id) && graph.constant_of(*id).is_none();
        let mut inputs: Vec<(ValueId, ValueId)> =
            nodes.iter().flat_map(reads).filter(taken).map(|id| (id, own[&id])).collect();
        inputs.sort_unstable();
        inputs.dedup();
        let results = nodes.iter().flat_map(|node| node.outputs.iter().flatten().copied());
        let outputs: Vec<ValueId> = results.filter(outlives).collect();
        let mut piece = Self { graph: piece, inputs, outputs };
        piece.graph.outputs = piece.outputs.iter().map(|id| own[id]).collect();
        piece
    }

    /// Returns the graph with the types and shapes of `known` values, and the contents of those that do not depend on
    /// inputs: engines need some operands to be constant, as they are in the whole graph.
    fn on(&self, known: &HashMap<ValueId, Tensor>, varies: &[bool]) -> Result<Graph> {
        let mut graph = self.graph.clone();
        for &(id, own) in &self.inputs {
            let missing = || Error::malformed(format!("tensor \"{}\"", graph.name_of(own)), "is made by no node");
            let tensor = known.get(&id).ok_or_else(missing)?;
            let value = graph.value_mut(own);
            value.dtype = Some(tensor.dtype());
            value.shape = Some(tensor.shape().iter().map(|&n| Dim::Known(n)).collect());
            value.constant = (!varies[id.index()]).then(|| tensor.clone());
            if varies[id.index()] {
                graph.inputs.push(own);
            }
        }
        Ok(graph)
    }
}

impl Session for Pieces {
    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let mut made = self.run_each(&[inputs.to_vec()])?;
        Ok(made.pop().expect("one batch gives one result"))
    }

    /// Every piece is loaded once for all batches of one shape.
    fn run_each(&mut self, batches: &[Vec<Tensor>]) -> Result<Vec<Vec<Tensor>>> {
        if let Some(inputs) = batches.iter().find(|inputs| inputs.len() != self.fed.len()) {
            let message = format!("expected {} inputs, found {}", self.fed.len(), inputs.len());
            return Err(Error::runtime(self.engine.name(), message));
        }
        let start = |inputs: &Vec<Tensor>| self.fed.iter().copied().zip(inputs.iter().cloned()).collect();
        let mut known: Vec<HashMap<ValueId, Tensor>> = batches.iter().map(start).collect();
        for index in 0..self.pieces.len() {
            self.run_piece(index, &mut known)?;
            onnx::release_pages();
        }
        let output = |known: &HashMap<ValueId, Tensor>| -> Option<Vec<Tensor>> {
            let one = |id: &ValueId| known.get(id).or_else(|| self.constants.get(id)).cloned();
            self.outputs.iter().map(one).collect()
        };
        let outputs: Option<Vec<_>> = known.iter().map(output).collect();
        outputs.ok_or_else(|| Error::runtime(self.engine.name(), "an output of the graph is made by no node"))
    }
}

fn reads(node: &Node) -> impl Iterator<Item = ValueId> {
    node.inputs.iter().flatten().copied()
}

/// Returns ranges of nodes within `limits`; a node above a limit is alone.
fn split(graph: &Graph, limits: PieceLimits) -> Vec<Range<usize>> {
    let (mut pieces, mut start, mut held) = (Vec::new(), 0, 0usize);
    for (i, node) in graph.nodes.iter().enumerate() {
        let own = reads(node).filter_map(|id| graph.constant_of(id)).map(float_bytes).fold(0, usize::saturating_add);
        if i > start && (held.saturating_add(own) > limits.bytes || i - start >= limits.nodes) {
            pieces.push(start..i);
            (start, held) = (i, 0);
        }
        held = held.saturating_add(own);
    }
    pieces.push(start..graph.nodes.len());
    pieces
}

fn float_bytes(tensor: &Tensor) -> usize {
    tensor.bytes().len().max(tensor.len().saturating_mul(4))
}
