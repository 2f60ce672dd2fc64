//! The integer grid of one quantizer as the file states it. Independent of the code that emits files, so that a
//! bug there is not repeated here.

use crate::error::{Error, Result};
use crate::ir::{DType, Graph, Node, Tensor, front_axis};

/// Scales, zero points and range of a QuantizeLinear or DequantizeLinear whose scales are constant.
#[derive(Clone, Debug, PartialEq)]
pub struct QdqGrid {
    /// One value, or one per slice along `axis`.
    pub scale: Vec<f32>,
    /// As many values as `scale`.
    pub zero_point: Vec<i64>,
    /// The axis of the scales as written; may be negative.
    pub axis: i64,
    /// The type of the integers.
    pub dtype: DType,
    /// The lowest integer.
    pub low: i64,
    /// The highest integer.
    pub high: i64,
}

impl QdqGrid {
    /// Returns the grid of a QuantizeLinear or DequantizeLinear on integers of type `dtype`, over that type's whole
    /// range; `None` where scales are computed or blocked.
    pub fn of(graph: &Graph, node: &Node, dtype: DType) -> Option<Self> {
        let scale = graph.constant_of(node.input(1)?)?;
        let blocked = node.attrs.int("block_size", 0) != 0 || scale.shape().len() > 1;
        let scale = scale.to_f32().ok().filter(|s| !s.is_empty() && !blocked)?;
        let zero_point = match node.input(2) {
            Some(id) => graph.constant_of(id)?.to_i64().ok()?,
            None => vec![0; scale.len()],
        };
        let (low, high) = dtype.int_range()?;
        let axis = node.attrs.int("axis", 1);
        (zero_point.len() == scale.len()).then_some(Self { scale, zero_point, axis, dtype, low, high })
    }

    /// Returns the bits that hold every integer of the grid.
    pub fn bits(&self) -> u32 {
        bits_for_levels(self.high - self.low + 1)
    }

    /// Returns `values` of `shape` on the grid: `round(x / scale) + zero_point`, half to even, saturated.
    ///
    /// # Errors
    /// When the scales do not fit `shape`.
    pub fn quantize(&self, values: &[f32], shape: &[usize]) -> Result<Tensor> {
        let inner = self.inner(shape)?;
        let bounds = (self.low as f64, self.high as f64);
        let integer = |(i, x): (usize, &f32)| {
            let channel = (i / inner) % self.scale.len();
            let step = f64::from((x / self.scale[channel]).round_ties_even());
            (step + self.zero_point[channel] as f64).clamp(bounds.0, bounds.1) as i32
        };
        let integers: Vec<i32> = values.iter().enumerate().map(integer).collect();
        Tensor::from_ints(self.dtype, shape, &integers)
    }

    /// Returns `(q - zero_point) * scale`.
    ///
    /// # Errors
    /// When the scales do not fit the tensor.
    pub fn dequantize(&self, integers: &Tensor) -> Result<Vec<f32>> {
        let inner = self.inner(integers.shape())?;
        let value = |(i, q): (usize, i64)| {
            let channel = (i / inner) % self.scale.len();
            (q - self.zero_point[channel]) as f32 * self.scale[channel]
        };
        Ok(integers.to_i64()?.into_iter().enumerate().map(value).collect())
    }

    /// Returns the number of adjacent elements of a tensor of `shape` share a scale.
    ///
    /// # Errors
    /// When the scales do not fit it.
    pub fn inner(&self, shape: &[usize]) -> Result<usize> {
        if self.scale.len() == 1 {
            return Ok(1);
        }
        let axis = front_axis(self.axis, shape.len()).filter(|&a| shape.get(a) == Some(&self.scale.len()));
        let axis = axis.ok_or_else(|| {
            let message = format!("{} scales along axis {} do not fit {shape:?}", self.scale.len(), self.axis);
            Error::shape("quantizer", message)
        })?;
        Ok(shape[axis + 1..].iter().product())
    }
}

/// Returns the bits that hold `levels` different integers.
pub fn bits_for_levels(levels: i64) -> u32 {
    i64::BITS - (levels - 1).max(1).leading_zeros()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_half_to_even_saturates_and_returns() {
        let grid =
            QdqGrid { scale: vec![0.5, 2.0], zero_point: vec![2, 0], axis: 0, dtype: DType::U8, low: 0, high: 15 };
        let q = grid.quantize(&[0.25, 0.75, -9.0, 3.0, 5.0, 99.0], &[2, 3]).unwrap();
        assert_eq!(q.to_i64().unwrap(), [2, 4, 0, 2, 2, 15]);
        assert_eq!(grid.dequantize(&q).unwrap(), [0.0, 1.0, -1.0, 4.0, 4.0, 30.0]);
        assert_eq!(grid.bits(), 4);
    }

    #[test]
    fn counts_bits() {
        let cases = [(2, 1), (3, 2), (4, 2), (15, 4), (16, 4), (255, 8), (256, 8), (257, 9)];
        let wrong: Vec<_> = cases.iter().filter(|(levels, bits)| bits_for_levels(*levels) != *bits).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}
