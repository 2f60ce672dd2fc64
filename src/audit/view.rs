//! The quantizers and dequantizers of a graph as ONNX Runtime's optimizer sees them, after it has moved quantizers over
//! operators that only move values.

use super::Reason;
use crate::ir::{DType, Graph, Node, Tensor, Uses, ValueId, is_dequantize, is_quantize, quantized_type};
use crate::stats::clip_bounds;

/// Operators that quantizers are moved over, and the newest operator set for which that is so.
const MOVED_OVER: &[(&str, i64)] =
    &[("MaxPool", 12), ("Reshape", 5), ("Transpose", 1), ("Squeeze", 1), ("Unsqueeze", 1), ("Slice", 1)];

/// A grid as a QuantizeLinear or DequantizeLinear writes it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct KernelGrid {
    /// The type of the integers as the kernels get them: int8 pairs that nothing else reads become uint8.
    pub dtype: DType,
    /// The type in the file.
    pub stored: DType,
    /// The scale.
    pub scale: Option<Tensor>,
    /// The zero point; none where it is left out.
    pub zero_point: Option<Tensor>,
}

impl KernelGrid {
    /// Returns whether scale and zero point are both present, constant and of rank 0.
    pub fn is_scalar(&self) -> bool {
        let scalar = |tensor: &Option<Tensor>| tensor.as_ref().is_some_and(|t| t.shape().is_empty());
        scalar(&self.scale) && scalar(&self.zero_point)
    }

    /// Returns the zero point as a number, 0 where it is left out.
    pub fn zero(&self) -> Option<i64> {
        match &self.zero_point {
            None => Some(0),
            Some(tensor) => tensor.to_i64().ok()?.first().copied(),
        }
    }
}

/// A graph and the uses of its values.
pub(super) struct View<'a> {
    pub graph: &'a Graph,
    pub uses: Uses,
}

impl<'a> View<'a> {
    pub fn new(graph: &'a Graph) -> Self {
        Self { graph, uses: graph.uses() }
    }

    /// Returns whether the node computes on data: no quantizer, no constant, nothing but shapes or indices.
    pub fn computes(&self, node: &Node) -> bool {
        if is_quantize(node) || is_dequantize(node) || node.is("Constant") {
            return false;
        }
        let ids = || node.inputs.iter().take(1).chain(node.outputs.iter().take(1)).flatten();
        let float = |id: &ValueId| self.graph.value(*id).dtype.is_none_or(DType::is_float);
        let shape_only = node.is("Shape") || node.is("Size") || node.is("ConstantOfShape");
        ids().any(float) && !shape_only && !self.is_constant(node)
    }

    fn is_constant(&self, node: &Node) -> bool {
        node.inputs.iter().flatten().all(|&id| self.graph.constant_of(id).is_some())
    }

    pub fn name(&self, id: ValueId) -> String {
        self.graph.name_of(id).to_owned()
    }

    pub fn maker(&self, id: ValueId) -> Option<&'a Node> {
        self.uses.producer(id).map(|i| &self.graph.nodes[i])
    }

    pub fn readers(&self, id: ValueId) -> impl Iterator<Item = &'a Node> {
        self.uses.consumers(id).iter().map(|&i| &self.graph.nodes[i])
    }

    /// Returns whether a dequantized tensor is stored, not computed.
    pub fn is_stored(&self, id: ValueId) -> bool {
        let source = self.maker(id).filter(|n| is_dequantize(n)).and_then(|n| n.input(0));
        let quantized = source.and_then(|id| self.maker(id)).filter(|n| is_quantize(n)).and_then(|n| n.input(0));
        quantized.or(source).is_some_and(|id| self.graph.constant_of(id).is_some())
    }

    /// Returns whether quantizers are moved over the node.
    pub fn moved_over(&self, node: &Node) -> bool {
        MOVED_OVER.iter().any(|(op, since)| node.is(op) && self.graph.opset() >= *since)
    }

    /// Returns the grid that an operand is dequantized from.
    pub fn operand(&self, id: ValueId) -> Option<KernelGrid> {
        let node = self.maker(id)?;
        if is_dequantize(node) {
            return self.grid(node);
        }
        let source = node.input(0).filter(|_| self.moved_over(node) && !self.uses.is_output(id))?;
        self.operand(source).filter(|grid| grid.scale.as_ref().is_some_and(|s| s.shape().is_empty()))
    }

    /// Returns the grid of the only quantizer behind a result.
    ///
    /// # Errors
    /// The reason why a kernel cannot absorb one.
    pub fn result(&self, id: ValueId) -> Result<KernelGrid, Reason> {
        if self.uses.is_output(id) {
            return Err(Reason::GraphOutput { tensor: self.name(id) });
        }
        let readers: Vec<&Node> = self.readers(id).collect();
        if readers.iter().any(|n| is_quantize(n)) {
            return match readers.as_slice() {
                [only] => self.grid(only).ok_or_else(|| Reason::GridForm { tensor: self.name(id) }),
                _ => Err(Reason::BranchedResult { tensor: self.name(id), readers: op_types(&readers) }),
            };
        }
        // A quantizer behind operators that only move values is moved before them.
        if let [only] = readers.as_slice()
            && self.moved_over(only)
            && only.input(0) == Some(id)
            && let Some(grid) = only.output(0).and_then(|moved| self.result(moved).ok())
            && grid.scale.as_ref().is_some_and(|s| s.shape().is_empty())
        {
            return Ok(grid);
        }
        Err(Reason::FloatResult { tensor: self.name(id) })
    }

    /// Returns the tensor that a kernel's quantizer must read: the result, or that of the Relu or Clip which alone
    /// reads it and which the quantizer makes redundant.
    ///
    /// # Errors
    /// Where the Relu or Clip must stay.
    pub fn behind_activation(&self, id: ValueId) -> Result<ValueId, Reason> {
        let only = self.uses.only_consumer(id).map(|i| &self.graph.nodes[i]);
        let Some(node) = only.filter(|n| n.is("Relu") || n.is("Clip")) else { return Ok(id) };
        let Some(result) = node.output(0).filter(|&y| self.is_read_once(y)) else { return Ok(id) };
        match self.result(result) {
            Ok(grid) if self.is_needless(node, &grid) => Ok(result),
            Ok(_) => Err(Reason::ActivationStays { op: node.op_type.clone(), tensor: self.name(result) }),
            Err(_) => Err(Reason::FloatResult { tensor: self.name(result) }),
        }
    }

    fn is_read_once(&self, id: ValueId) -> bool {
        !self.uses.is_output(id) && self.uses.consumers(id).len() == 1
    }

    /// Returns whether a quantizer onto `grid` clips at least as much as a Relu or Clip before it.
    pub fn is_needless(&self, node: &Node, grid: &KernelGrid) -> bool {
        let scale = grid.scale.as_ref().filter(|s| s.shape().is_empty()).and_then(|s| s.to_f32().ok());
        let (Some(scale), Some(zero)) = (scale.and_then(|s| s.first().copied()), grid.zero()) else { return false };
        let Some((lowest, highest)) = grid.stored.int_range() else { return false };
        if node.is("Relu") {
            return zero == lowest;
        }
        let Some([lo, hi]) = clip_bounds(self.graph, node) else { return false };
        let integer = |v: f32| f64::from(v / scale).round_ties_even() + zero as f64;
        integer(lo) <= lowest as f64 && integer(hi) >= highest as f64
    }

    fn grid(&self, node: &Node) -> Option<KernelGrid> {
        let constant = |i: usize| node.input(i).and_then(|id| self.graph.constant_of(id)).cloned();
        let integers = if is_quantize(node) { node.output(0) } else { node.input(0) }?;
        let zero_point = constant(2);
        if node.input(2).is_some() && zero_point.is_none() {
            return None;
        }
        let stored = match (&zero_point, self.graph.value(integers).dtype) {
            (Some(tensor), _) => tensor.dtype(),
            (None, _) if is_quantize(node) => quantized_type(self.graph, node),
            (None, dtype) => dtype.unwrap_or(DType::U8),
        };
        let dtype = if stored == DType::I8 && self.becomes_unsigned(integers) { DType::U8 } else { stored };
        Some(KernelGrid { dtype, stored, scale: constant(1), zero_point })
    }

    /// Returns whether an int8 pair becomes uint8: ONNX Runtime on x86-64 converts pairs that a single node reads.
    fn becomes_unsigned(&self, integers: ValueId) -> bool {
        let made = self.maker(integers).is_some_and(is_quantize);
        let mut readers = self.readers(integers);
        let (first, second) = (readers.next(), readers.next());
        let pair = first.filter(|n| is_dequantize(n) && second.is_none() && !self.uses.is_output(integers));
        let float = pair.and_then(|n| n.output(0));
        let uses = |id: ValueId| self.uses.consumers(id).len() + usize::from(self.uses.is_output(id));
        made && float.is_some_and(|id| uses(id) <= 1)
    }
}

/// Returns the operators of nodes, each once.
pub(super) fn op_types(nodes: &[&Node]) -> Vec<String> {
    let mut ops: Vec<String> = nodes.iter().map(|n| n.op_type.clone()).collect();
    ops.sort();
    ops.dedup();
    ops
}
