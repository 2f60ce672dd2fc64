//! Operators that move elements, and matrix products.

use super::Expr;
use super::own::SELECT;
use super::reduce::{index, indices};
use crate::ir::Attr;

impl<'b> Expr<'b> {
    /// Returns the tensor reshaped.
    #[track_caller]
    pub fn reshape(self, shape: &[usize]) -> Self {
        if self.shape() == shape {
            return self;
        }
        self.builder.apply("Reshape", &[self, self.builder.ints(&indices(shape))], [])
    }

    /// Returns the tensor broadcast to a shape.
    #[track_caller]
    pub fn expand(self, shape: &[usize]) -> Self {
        if self.shape() == shape {
            return self;
        }
        self.builder.apply("Expand", &[self, self.builder.ints(&indices(shape))], [])
    }

    /// Returns the tensor with permuted axes.
    #[track_caller]
    pub fn transpose(self, order: &[usize]) -> Self {
        if order.iter().copied().eq(0..order.len()) {
            return self;
        }
        self.builder.apply("Transpose", &[self], [("perm", Attr::Ints(indices(order)))])
    }

    /// Returns the tensor with new axes of size 1 at `axes` of the result.
    #[track_caller]
    pub fn unsqueeze(self, axes: &[usize]) -> Self {
        self.builder.apply("Unsqueeze", &[self, self.builder.ints(&indices(axes))], [])
    }

    /// Returns the elements `range` along `axis`.
    #[track_caller]
    pub fn slice(self, axis: usize, range: std::ops::Range<usize>) -> Self {
        let one = |n: usize| self.builder.ints(&[index(n)]);
        self.builder.apply("Slice", &[self, one(range.start), one(range.end), one(axis)], [])
    }

    /// Returns the tensor padded with zeros before and after each axis; negative widths crop (by Slice: not every
    /// engine accepts negative pads).
    #[track_caller]
    pub fn pad(self, before: &[i64], behind: &[i64]) -> Self {
        let shape = self.shape();
        let mut kept = self;
        for (axis, (&size, (&before, &behind))) in shape.iter().zip(before.iter().zip(behind)).enumerate() {
            if before < 0 || behind < 0 {
                let cut = |n: i64| usize::try_from(-n.min(0)).unwrap_or(usize::MAX);
                let end = size.saturating_sub(cut(behind));
                kept = kept.slice(axis, cut(before).min(end)..end);
            }
        }
        let widths: Vec<i64> = before.iter().chain(behind).map(|&n| n.max(0)).collect();
        if widths.iter().all(|&n| n == 0) {
            return kept;
        }
        self.builder.apply("Pad", &[kept, self.builder.ints(&widths)], [])
    }

    /// Returns pieces of `sizes` along `axis`.
    #[track_caller]
    pub fn split(self, axis: usize, sizes: &[usize]) -> Vec<Self> {
        let sizes_input = self.builder.ints(&indices(sizes));
        self.builder.call("Split", &[Some(self), Some(sizes_input)], [("axis", Attr::Int(index(axis)))], sizes.len())
    }

    /// Returns this tensor and `others` concatenated along `axis`.
    #[track_caller]
    pub fn concat(self, others: &[Self], axis: usize) -> Self {
        let all: Vec<Self> = std::iter::once(self).chain(others.iter().copied()).collect();
        self.builder.apply("Concat", &all, [("axis", Attr::Int(index(axis)))])
    }

    /// Returns the slices at `indices` along `axis`.
    #[track_caller]
    pub fn gather(self, indices: Self, axis: usize) -> Self {
        self.builder.apply("Gather", &[self, indices], [("axis", Attr::Int(index(axis)))])
    }

    /// Returns the pixels of `[N, C, H, W]` at the crossings of rows and columns: a crop, a reflection, a shift. Both
    /// are int64 lists of indices into the axis, not negative.
    #[track_caller]
    pub fn select(self, rows: Self, columns: Self) -> Self {
        self.builder.own(SELECT, &[self, rows, columns], [], 1)[0]
    }

    /// Returns the product of the last two axes, batched over the others.
    #[track_caller]
    pub fn matmul(self, other: Self) -> Self {
        self.builder.apply("MatMul", &[self, other], [])
    }

    /// Returns the tensor with its last two axes exchanged.
    #[track_caller]
    pub fn transposed(self) -> Self {
        let rank = self.rank();
        if rank < 2 {
            return self.fail("transposed", format!("expected a matrix, found the shape {:?}", self.shape()));
        }
        let order: Vec<usize> = (0..rank - 2).chain([rank - 1, rank - 2]).collect();
        self.transpose(&order)
    }
}
