//! Small graphs for tests, written down in a few lines.

use dfq_onnx::ir::{Attr, Attrs, DType, Dim, Graph, Node, Tensor, ValueId};

/// A graph under construction.
pub struct Build {
    /// The graph so far.
    pub graph: Graph,
}

impl Build {
    /// Returns an empty graph of operator set `opset`.
    pub fn new(opset: i64) -> Self {
        let mut graph = Graph::default();
        (graph.name, graph.ir_version) = ("test".to_owned(), 10);
        graph.set_opset(opset);
        Self { graph }
    }

    /// Returns a new input; `dims` such as `"N, 3, 8, ?"`.
    pub fn input(&mut self, name: &str, dtype: DType, dims: &str) -> ValueId {
        let dim = |text: &str| match (text, text.parse()) {
            (_, Ok(n)) => Dim::Known(n),
            ("?", _) => Dim::Unknown,
            (symbol, _) => Dim::Symbol(symbol.to_owned()),
        };
        let id = self.graph.add_value(name);
        let value = self.graph.value_mut(id);
        value.dtype = Some(dtype);
        value.shape = Some(dims.split(',').map(str::trim).filter(|t| !t.is_empty()).map(dim).collect());
        self.graph.inputs.push(id);
        id
    }

    /// Returns a new int64 initializer with one axis.
    pub fn ints(&mut self, name: &str, values: &[i64]) -> ValueId {
        self.graph.add_constant(name, Tensor::from_i64(&[values.len()], values))
    }

    /// Returns the output `name` of a new node.
    pub fn node<const N: usize>(
        &mut self,
        name: &str,
        op: &str,
        inputs: &[ValueId],
        attrs: [(&str, Attr); N],
    ) -> ValueId {
        let id = self.graph.add_value(name);
        self.graph.nodes.push(Node::new(op, inputs.iter().copied(), [id], Attrs::from(attrs)));
        id
    }

    /// Returns the graph with these outputs.
    pub fn finish(mut self, outputs: &[ValueId]) -> Graph {
        self.graph.outputs = outputs.to_vec();
        self.graph
    }
}
