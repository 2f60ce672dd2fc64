//! The weight of a layer as a matrix: one row per output channel, columns by input channel, then by tap.

use crate::error::Result;
use crate::ir::{DType, Graph, Node, Tensor};
use crate::stats::share_of_taps;

/// A weight as rows; element `(o, i, t)` stands at `(o · inputs + i) · taps + t`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    /// The elements.
    pub values: Vec<f32>,
    /// Output channels.
    pub outputs: usize,
    /// Input channels of one group.
    pub inputs: usize,
    /// Elements of one kernel.
    pub taps: usize,
    /// Groups.
    pub group: usize,
    /// The share of its taps that an output uses: below 1 for a strided ConvTranspose.
    pub seen: f64,
    /// The order of elements in the tensor; `None` if it is that of the rows.
    order: Option<InputsFirst>,
    shape: Vec<usize>,
}

/// The order of a tensor whose first axis is the input channels.
#[derive(Clone, Copy, Debug, PartialEq)]
struct InputsFirst {
    inputs: usize,
    taps: usize,
    /// Output channels of one group.
    outputs: usize,
}

impl InputsFirst {
    /// Returns the places in the tensor, element by element in the order of the rows.
    fn places(self, len: usize) -> impl Iterator<Item = usize> {
        let Self { inputs, taps, outputs } = self;
        let row = inputs * taps;
        (0..len / row.max(1)).flat_map(move |o| {
            let start = (o / outputs * inputs * outputs + o % outputs) * taps;
            (0..inputs).flat_map(move |i| {
                let kernel = start + i * outputs * taps;
                kernel..kernel + taps
            })
        })
    }
}

impl Rows {
    /// Returns the weight of a Conv, ConvTranspose, Gemm or MatMul; `None` where it is not a constant float32 matrix or
    /// kernel, or the node computes more than product and sum.
    ///
    /// # Errors
    /// None for float32 weights.
    pub fn read(graph: &Graph, node: &Node) -> Result<Option<Self>> {
        let Some(tensor) = node.input(1).and_then(|id| graph.constant_of(id)) else { return Ok(None) };
        let group = usize::try_from(node.attrs.int("group", 1)).unwrap_or(0);
        let shape = tensor.shape();
        if tensor.dtype() != DType::F32 || shape.len() < 2 || tensor.is_empty() || group == 0 {
            return Ok(None);
        }
        let (first, second, taps) = (shape[0], shape[1], shape[2..].iter().product::<usize>());
        let plain = node.attrs.float("alpha", 1.0) == 1.0
            && node.attrs.float("beta", 1.0) == 1.0
            && node.attrs.int("transA", 0) == 0;
        let (outputs, inputs, transposed) = match node.op_type.as_str() {
            "Conv" => (first, second, false),
            "ConvTranspose" if first % group == 0 => (second * group, first / group, true),
            "Gemm" if plain && node.attrs.int("transB", 0) != 0 => (first, second, false),
            "Gemm" | "MatMul" if plain && shape.len() == 2 => (second, first, true),
            _ => return Ok(None),
        };
        if outputs % group != 0 {
            return Ok(None);
        }
        let per_group = outputs / group;
        let order = transposed.then_some(InputsFirst { inputs, taps, outputs: per_group });
        let (values, seen) = (tensor.to_f32()?, share_of_taps(node));
        let mut rows = Self { values, outputs, inputs, taps, group, seen, order, shape: shape.to_vec() };
        if order.is_some() {
            rows.values = rows.gather(&rows.values);
        }
        Ok(Some(rows))
    }

    /// Returns the length of a row.
    pub fn width(&self) -> usize {
        self.inputs * self.taps
    }

    /// Returns the number of input channels of all groups.
    pub fn input_channels(&self) -> usize {
        self.inputs * self.group
    }

    /// Returns the group of output channel `o`.
    pub fn group_of(&self, o: usize) -> usize {
        o / (self.outputs / self.group)
    }

    /// Returns the input channel that column `k` of row `o` reads.
    pub fn input_channel(&self, o: usize, k: usize) -> usize {
        self.group_of(o) * self.inputs + k / self.taps
    }

    /// Returns the elements of a tensor of this shape in the order of the rows.
    pub fn gather<T: Copy>(&self, tensor: &[T]) -> Vec<T> {
        match self.order {
            None => tensor.to_vec(),
            Some(order) => order.places(tensor.len()).map(|at| tensor[at]).collect(),
        }
    }

    /// Returns elements from the order of the rows in the order of the tensor.
    pub fn scatter<T: Copy + Default>(&self, rows: &[T]) -> Vec<T> {
        match self.order {
            None => rows.to_vec(),
            Some(order) => {
                let mut tensor = vec![T::default(); rows.len()];
                order.places(rows.len()).zip(rows).for_each(|(at, &v)| tensor[at] = v);
                tensor
            }
        }
    }

    /// Returns the weight tensor of these rows.
    pub fn tensor(&self) -> Tensor {
        Tensor::from_f32(&self.shape, &self.scatter(&self.values))
    }

    /// Returns the weight's dimensions in the file.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Returns per row the product with `means`, which has one value per input channel, or one for all: what an output
    /// is on average, borders left out.
    pub fn times(&self, values: &[f32], means: &[f64]) -> Vec<f64> {
        let mean = |channel: usize| if means.len() == 1 { means[0] } else { means[channel] };
        let row = |(o, row): (usize, &[f32])| {
            self.seen * row.iter().enumerate().map(|(k, &w)| f64::from(w) * mean(self.input_channel(o, k))).sum::<f64>()
        };
        values.chunks(self.width()).enumerate().map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::Attr;

    /// Errors times means per output channel, worked by hand: what analytic bias correction subtracts.
    #[test]
    fn rows_meet_the_input_channels_of_their_group_and_tensors_come_back_as_they_were() {
        type Case = (&'static str, &'static str, Vec<usize>, (&'static str, i64), Vec<f64>, Vec<f64>);
        let cases: Vec<Case> = vec![
            ("two taps", "Conv", vec![1, 2, 1, 2], ("group", 1), vec![1.0, 10.0], vec![73.0]),
            ("two groups", "Conv", vec![2, 1, 1, 2], ("group", 2), vec![1.0, 10.0], vec![3.0, 70.0]),
            ("one mean for all", "Conv", vec![2, 1, 1, 2], ("group", 2), vec![2.0], vec![6.0, 14.0]),
            ("inputs first", "Gemm", vec![2, 2], ("transB", 0), vec![1.0, 10.0], vec![31.0, 42.0]),
            ("outputs first", "Gemm", vec![2, 2], ("transB", 1), vec![1.0, 10.0], vec![21.0, 43.0]),
            ("no bias", "MatMul", vec![2, 2], ("unused", 0), vec![1.0, 10.0], vec![31.0, 42.0]),
            ("transposed", "ConvTranspose", vec![2, 2, 1, 1], ("group", 1), vec![1.0, 10.0], vec![31.0, 42.0]),
            (
                "transposed groups",
                "ConvTranspose",
                vec![2, 2, 1, 1],
                ("group", 2),
                vec![1.0, 10.0],
                vec![1., 2., 30., 40.],
            ),
        ];
        let mut failed = Vec::new();
        for (name, op, shape, attr, means, expected) in cases {
            let mut graph = Graph::default();
            let (x, y) = (graph.add_value("x"), graph.add_value("y"));
            let weight = Tensor::from_f32(&shape, &[1.0, 2.0, 3.0, 4.0]);
            let w = graph.add_constant("w", weight.clone());
            let node = Node::new(op, [x, w], [y], [(attr.0, Attr::Int(attr.1))]);
            let rows = Rows::read(&graph, &node).unwrap().unwrap();
            let found = rows.times(&rows.values, &means);
            if found != expected || rows.tensor() != weight {
                failed.push((name, found, expected));
            }
        }
        assert!(failed.is_empty(), "{failed:?}");
    }

    #[test]
    fn an_output_of_a_transposed_convolution_with_strides_sees_a_share_of_its_taps() {
        let mut graph = Graph::default();
        let (x, y) = (graph.add_value("x"), graph.add_value("y"));
        let w = graph.add_constant("w", Tensor::from_f32(&[1, 1, 2, 2], &[1.0, 2.0, 3.0, 4.0]));
        let attrs = [("strides", Attr::Ints(vec![2, 2]))];
        let rows = Rows::read(&graph, &Node::new("ConvTranspose", [x, w], [y], attrs)).unwrap().unwrap();
        assert_eq!(rows.times(&rows.values, &[10.0]), [25.0]);
    }
}
