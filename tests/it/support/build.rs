//! Small graphs written down by names.

use dfq_onnx::ir::{Attrs, DType, Dim, Graph, Node, Tensor, ValueId};

/// A graph in the making; values are named in space-separated lists, `_` stands for an absent one.
pub struct Build(Graph);

impl Build {
    /// Returns an empty graph of the given opset.
    pub fn at(opset: i64) -> Self {
        let mut graph = Graph::default();
        graph.name = "case".to_owned();
        graph.ir_version = 7;
        graph.set_opset(opset);
        Self(graph)
    }

    /// Adds a float input.
    pub fn input(&mut self, name: &str, shape: &[usize]) {
        let id = self.0.find_or_add(name);
        self.0.inputs.push(id);
        self.0.value_mut(id).shape = Some(shape.iter().map(|&n| Dim::Known(n)).collect());
        self.0.value_mut(id).dtype = Some(DType::F32);
    }

    /// Adds an input of any type; `dims` such as `"N, 3, 8, ?"`.
    pub fn fed(&mut self, name: &str, dtype: DType, dims: &str) {
        let dim = |text: &str| match (text, text.parse()) {
            (_, Ok(n)) => Dim::Known(n),
            ("?", _) => Dim::Unknown,
            (symbol, _) => Dim::Symbol(symbol.to_owned()),
        };
        let id = self.0.find_or_add(name);
        let value = self.0.value_mut(id);
        value.dtype = Some(dtype);
        value.shape = Some(dims.split(',').map(str::trim).filter(|t| !t.is_empty()).map(dim).collect());
        self.0.inputs.push(id);
    }

    /// Adds an int64 initializer with one axis.
    pub fn ints(&mut self, name: &str, values: &[i64]) {
        self.0.add_constant(name, Tensor::from_i64(&[values.len()], values));
    }

    /// Adds float initializers that hold small positive values, all different.
    pub fn weights(&mut self, names: &str, shape: &[usize]) {
        for (k, name) in names.split(' ').enumerate() {
            let len: usize = shape.iter().product();
            let values: Vec<f32> = (0..len).map(|i| ((7 * i + 3 * k) % 11 + 1) as f32 / 8.0).collect();
            self.0.add_constant(name, Tensor::from_f32(shape, &values));
        }
    }

    /// Adds an initializer.
    pub fn constant(&mut self, name: &str, tensor: Tensor) {
        self.0.add_constant(name, tensor);
    }

    /// Adds a node.
    pub fn node(&mut self, op: &str, inputs: &str, outputs: &str, attrs: impl Into<Attrs>) {
        let mut node = Node::new(op, [], [], attrs);
        node.inputs = self.values(inputs);
        node.outputs = self.values(outputs);
        self.0.nodes.push(node);
    }

    /// Puts the last node into another domain.
    pub fn domain(&mut self, name: &str) {
        self.0.nodes.last_mut().unwrap().domain = name.to_owned();
    }

    /// Declares the element type of a value.
    pub fn declare(&mut self, name: &str, dtype: DType) {
        let id = self.0.find_or_add(name);
        self.0.value_mut(id).dtype = Some(dtype);
    }

    /// Returns the graph with these outputs.
    pub fn outputs(mut self, names: &str) -> Graph {
        self.0.outputs = self.values(names).into_iter().flatten().collect();
        self.0
    }

    fn values(&mut self, names: &str) -> Vec<Option<ValueId>> {
        names.split(' ').map(|name| (name != "_").then(|| self.0.find_or_add(name))).collect()
    }
}
