//! The weight of a layer as a matrix: one row an output channel, columns by input channel, then by tap.

use crate::error::Result;
use crate::ir::{DType, Graph, Node, Tensor};

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
    /// Where each element lies in the tensor; `None` where the tensor is in this order itself.
    order: Option<Vec<usize>>,
    shape: Vec<usize>,
}

impl Rows {
    /// Returns the weight of a Conv, ConvTranspose, Gemm or MatMul; `None` where it is no constant float32 matrix or
    /// kernel, or the node computes more than a product and a sum.
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
        let order = transposed.then(|| {
            let place = |k: usize| {
                let (o, i, t) = (k / (inputs * taps), k / taps % inputs, k % taps);
                ((o / per_group * inputs + i) * per_group + o % per_group) * taps + t
            };
            (0..tensor.len()).map(place).collect()
        });
        let mut rows = Self { values: Vec::new(), outputs, inputs, taps, group, order, shape: shape.to_vec() };
        rows.values = rows.gather(&tensor.to_f32()?);
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
        match &self.order {
            None => tensor.to_vec(),
            Some(order) => order.iter().map(|&at| tensor[at]).collect(),
        }
    }

    /// Returns elements in the order of the rows as the tensor has them.
    pub fn scatter<T: Copy + Default>(&self, rows: &[T]) -> Vec<T> {
        match &self.order {
            None => rows.to_vec(),
            Some(order) => {
                let mut tensor = vec![T::default(); rows.len()];
                order.iter().zip(rows).for_each(|(&at, &v)| tensor[at] = v);
                tensor
            }
        }
    }

    /// Returns the rows as the tensor that they were read from.
    pub fn tensor(&self) -> Tensor {
        Tensor::from_f32(&self.shape, &self.scatter(&self.values))
    }

    /// Returns the weight's dimensions in the file.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Returns per row the product with `means`, which has one value per input channel, or one for all.
    pub fn times(&self, values: &[f32], means: &[f64]) -> Vec<f64> {
        let mean = |channel: usize| if means.len() == 1 { means[0] } else { means[channel] };
        let row = |(o, row): (usize, &[f32])| {
            row.iter().enumerate().map(|(k, &w)| f64::from(w) * mean(self.input_channel(o, k))).sum()
        };
        values.chunks(self.width()).enumerate().map(row).collect()
    }
}
