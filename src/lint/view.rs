//! The layers and quantizers of a graph as written in the file.

use crate::ir::{DType, Graph, Node, Tensor, Uses, ValueId, is_dequantize, is_quantize, quantized_type};
use crate::plan::{Target, is_layer};

/// A graph, the uses of its values, and the target whose rules apply.
pub(super) struct View<'a> {
    pub graph: &'a Graph,
    pub target: Target,
    pub uses: Uses,
}

/// A quantized operand: a DequantizeLinear and the source of its integers.
#[derive(Clone, Copy)]
pub(super) struct Operand<'a> {
    pub dequantize: &'a Node,
    /// The initializer of integers, for weights and biases.
    pub stored: Option<&'a Tensor>,
    /// QuantizeLinear, for activations; an integer Clip may lie between.
    pub quantize: Option<&'a Node>,
}

/// A Conv, ConvTranspose, Gemm or MatMul with its operands; none where they are float.
#[derive(Clone, Copy)]
pub(super) struct Layer<'a> {
    pub node: &'a Node,
    pub input: Option<Operand<'a>>,
    pub weight: Option<Operand<'a>>,
    pub bias: Option<Operand<'a>>,
}

impl<'a> View<'a> {
    pub fn of(graph: &'a Graph, target: Target) -> Self {
        Self { graph, target, uses: graph.uses() }
    }

    pub fn maker(&self, id: ValueId) -> Option<&'a Node> {
        Some(&self.graph.nodes[self.uses.producer(id)?])
    }

    pub fn readers(&self, id: ValueId) -> impl Iterator<Item = &'a Node> {
        self.uses.consumers(id).iter().map(|&i| &self.graph.nodes[i])
    }

    /// QuantizeLinear and DequantizeLinear.
    pub fn pairs(&self) -> impl Iterator<Item = &'a Node> {
        self.graph.nodes.iter().filter(|node| is_quantize(node) || is_dequantize(node))
    }

    /// QuantizeLinear of tensors that are computed at run time.
    pub fn quantizers(&self) -> impl Iterator<Item = &'a Node> {
        let computed = |node: &&Node| node.input(0).is_some_and(|id| self.graph.constant_of(id).is_none());
        self.graph.nodes.iter().filter(|node| is_quantize(node)).filter(computed)
    }

    pub fn layers(&self) -> impl Iterator<Item = Layer<'a>> {
        self.graph.nodes.iter().filter(|node| is_layer(node)).map(|node| Layer {
            node,
            input: self.operand(node.input(0)),
            weight: self.operand(node.input(1)),
            bias: self.operand(node.input(2)),
        })
    }

    pub fn operand(&self, id: Option<ValueId>) -> Option<Operand<'a>> {
        let dequantize = self.maker(id?).filter(|node| is_dequantize(node))?;
        let integers = dequantize.input(0)?;
        let maker = self.maker(integers);
        let before = match maker.filter(|node| node.is("Clip")) {
            Some(clip) => self.maker(clip.input(0)?),
            None => maker,
        };
        let quantize = before.filter(|node| is_quantize(node));
        let stored = self.graph.constant_of(integers);
        Some(Operand { dequantize, stored, quantize })
    }

    /// Returns the type of a Q/DQ node's integers, if the file states it.
    pub fn integers(&self, node: &Node) -> Option<DType> {
        let of = |i: usize| node.input(i).and_then(|id| self.graph.value(id).dtype);
        if is_quantize(node) {
            return Some(quantized_type(self.graph, node));
        }
        let quantize = || self.operand(node.output(0))?.quantize.and_then(|q| self.integers(q));
        of(2).or_else(|| of(0)).or_else(quantize)
    }

    pub fn scale(&self, node: &Node) -> Option<&'a Tensor> {
        self.graph.constant_of(node.input(1)?)
    }

    pub fn scales(&self, node: &Node) -> Option<Vec<f32>> {
        self.scale(node)?.to_f32().ok()
    }

    /// Returns the zero points as written; `None` where they are omitted or computed.
    pub fn zero_points(&self, node: &Node) -> Option<Vec<i64>> {
        self.graph.constant_of(node.input(2)?)?.to_i64().ok()
    }

    pub fn has_zero_point_other_than_0(&self, node: &Node) -> bool {
        self.zero_points(node).is_some_and(|zeros| zeros.iter().any(|&zero| zero != 0))
    }

    /// Returns whether two Q/DQ nodes have the same scales and zero points.
    pub fn same_grid(&self, a: &Node, b: &Node) -> bool {
        let zeros = |node| self.zero_points(node).unwrap_or_default();
        let zeros_agree = zeros(a) == zeros(b) || [a, b].iter().all(|node| !self.has_zero_point_other_than_0(node));
        let scales = a.input(1) == b.input(1) || (self.scales(a).is_some() && self.scales(a) == self.scales(b));
        scales && zeros_agree
    }
}

/// Returns whether a type has 4 or 2 bits.
pub(super) fn is_packed(dtype: Option<DType>) -> bool {
    matches!(dtype, Some(DType::I4 | DType::U4 | DType::I2 | DType::U2))
}

/// Returns whether a type has 16 bits.
pub(super) fn is_16_bit(dtype: Option<DType>) -> bool {
    matches!(dtype, Some(DType::I16 | DType::U16))
}

/// Returns whether scales are blocked.
pub(super) fn is_blocked(view: &View, node: &Node) -> bool {
    node.attrs.int("block_size", 0) != 0 || view.scale(node).is_some_and(|scale| scale.shape().len() > 1)
}
