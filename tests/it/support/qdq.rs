//! Small Q/DQ graphs written by hand, as other tools write them: any type, any grid, any placement.

use dfq_onnx::ir::{Attr, Attrs, DType, Dim, Graph, Node, Tensor, ValueId};

/// A per-tensor grid.
#[derive(Clone, Copy)]
pub struct ScalarGrid {
    /// The type of the integers.
    pub dtype: DType,
    /// The scale.
    pub scale: f32,
    /// The zero point.
    pub zero: i32,
}

/// uint8 with zero point 128: any sign.
pub const U8: ScalarGrid = ScalarGrid { dtype: DType::U8, scale: 0.02, zero: 128 };
/// uint8 with zero point 0: what a Relu leaves.
pub const POSITIVE: ScalarGrid = ScalarGrid { dtype: DType::U8, scale: 0.02, zero: 0 };
/// int8 with zero point 0.
pub const I8: ScalarGrid = ScalarGrid { dtype: DType::I8, scale: 0.02, zero: 0 };
/// int8 with zero point -128.
pub const LOW: ScalarGrid = ScalarGrid { dtype: DType::I8, scale: 0.02, zero: -128 };

/// A graph in the making.
pub struct Qdq(pub Graph);

impl Qdq {
    /// Returns an empty graph of operator set `opset`.
    pub fn new(opset: i64) -> Self {
        let mut graph = Graph::default();
        (graph.name, graph.ir_version) = ("case".to_owned(), 10);
        graph.set_opset(opset);
        Self(graph)
    }

    /// Returns a new float input.
    pub fn input(&mut self, name: &str, shape: &[usize]) -> ValueId {
        let id = self.0.add_value(name);
        self.0.value_mut(id).dtype = Some(DType::F32);
        self.0.value_mut(id).shape = Some(shape.iter().map(|&n| Dim::Known(n)).collect());
        self.0.inputs.push(id);
        id
    }

    /// Returns the output `name` of a new node, which is called the same.
    pub fn node<const N: usize>(
        &mut self,
        name: &str,
        op: &str,
        inputs: &[ValueId],
        attrs: [(&str, Attr); N],
    ) -> ValueId {
        let id = self.0.add_value(name);
        let mut node = Node::new(op, inputs.iter().copied(), [id], Attrs::from(attrs));
        node.name = name.to_owned();
        self.0.nodes.push(node);
        id
    }

    /// Returns the integers of `x` on a grid.
    pub fn quantize(&mut self, x: ValueId, grid: ScalarGrid) -> ValueId {
        let inputs = self.with_grid(x, grid);
        self.node("q", "QuantizeLinear", &inputs, [])
    }

    /// Returns the floats behind integers on a grid.
    pub fn dequantize(&mut self, q: ValueId, grid: ScalarGrid) -> ValueId {
        let inputs = self.with_grid(q, grid);
        self.node("dq", "DequantizeLinear", &inputs, [])
    }

    /// Returns `x` quantized and dequantized.
    pub fn pair(&mut self, x: ValueId, grid: ScalarGrid) -> ValueId {
        let q = self.quantize(x, grid);
        self.dequantize(q, grid)
    }

    /// Returns a dequantized weight with one scale per channel of axis 0; its first scale is 0.01.
    pub fn weight(&mut self, shape: &[usize], dtype: DType) -> ValueId {
        let n = shape[0];
        let scales: Vec<f32> = (0..n).map(|i| 0.01 * (1.0 + i as f32 / 64.0)).collect();
        let zeros = vec![if dtype == DType::U8 { 128 } else { 0 }; n];
        self.stored(shape, dtype, &scales, Some(&zeros))
    }

    /// Returns a dequantized int32 bias for input grid `x` and [`Qdq::weight`], its scales off by `factor`.
    pub fn bias(&mut self, n: usize, x: ScalarGrid, factor: f32) -> ValueId {
        let scales: Vec<f32> = (0..n).map(|i| factor * x.scale * (0.01 * (1.0 + i as f32 / 64.0))).collect();
        self.stored(&[n], DType::I32, &scales, None)
    }

    /// Returns a float constant.
    pub fn constant(&mut self, shape: &[usize]) -> ValueId {
        let len: usize = shape.iter().product();
        let values: Vec<f32> = (0..len).map(|i| ((7 * i) % 13) as f32 / 13.0 - 0.4).collect();
        self.0.add_constant("constant", Tensor::from_f32(shape, &values))
    }

    /// Returns a float scalar.
    pub fn scalar(&mut self, value: f32) -> ValueId {
        self.0.add_constant("scalar", Tensor::from_f32(&[], &[value]))
    }

    /// Returns an int64 vector.
    pub fn ints(&mut self, values: &[i64]) -> ValueId {
        self.0.add_constant("ints", Tensor::from_i64(&[values.len()], values))
    }

    /// Returns the graph with these float outputs.
    pub fn finish(mut self, outputs: &[ValueId]) -> Graph {
        for &id in outputs {
            self.0.value_mut(id).dtype.get_or_insert(DType::F32);
        }
        self.0.outputs = outputs.to_vec();
        self.0
    }

    fn stored(&mut self, shape: &[usize], dtype: DType, scales: &[f32], zeros: Option<&[i32]>) -> ValueId {
        let len: usize = shape.iter().product();
        let lowest = if dtype == DType::U8 { 0 } else { -7 };
        let values: Vec<i32> = (0..len).map(|i| lowest + i32::try_from((5 * i) % 15).unwrap()).collect();
        let mut inputs = vec![
            self.0.add_constant("integers", Tensor::from_ints(dtype, shape, &values).unwrap()),
            self.0.add_constant("scale", Tensor::from_f32(&[scales.len()], scales)),
        ];
        if let Some(zeros) = zeros {
            inputs.push(self.0.add_constant("zero_point", Tensor::from_ints(dtype, &[zeros.len()], zeros).unwrap()));
        }
        self.node("stored", "DequantizeLinear", &inputs, [("axis", Attr::Int(0))])
    }

    fn with_grid(&mut self, id: ValueId, grid: ScalarGrid) -> [ValueId; 3] {
        let scale = self.0.add_constant("scale", Tensor::from_f32(&[], &[grid.scale]));
        let zero = Tensor::from_ints(grid.dtype, &[], &[grid.zero]).unwrap();
        [id, scale, self.0.add_constant("zero_point", zero)]
    }
}
