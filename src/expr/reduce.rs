//! Reductions and softmax.

use super::Expr;
use crate::ir::Attr;

impl<'b> Expr<'b> {
    /// Returns the sum over `axes` (all axes if empty); with `keep` they remain with size 1.
    #[track_caller]
    pub fn sum(self, axes: &[usize], keep: bool) -> Self {
        self.reduce("ReduceSum", axes, keep)
    }

    /// Returns the mean over `axes`; see [`Expr::sum`].
    #[track_caller]
    pub fn mean(self, axes: &[usize], keep: bool) -> Self {
        self.reduce("ReduceMean", axes, keep)
    }

    /// Returns the largest element over `axes`; see [`Expr::sum`].
    #[track_caller]
    pub fn largest(self, axes: &[usize], keep: bool) -> Self {
        self.reduce("ReduceMax", axes, keep)
    }

    /// Returns the probabilities along `axis`.
    #[track_caller]
    pub fn softmax(self, axis: usize) -> Self {
        self.builder.apply("Softmax", &[self], [("axis", Attr::Int(index(axis)))])
    }

    /// Returns the logarithms of the probabilities along `axis`.
    #[track_caller]
    pub fn log_softmax(self, axis: usize) -> Self {
        self.builder.apply("LogSoftmax", &[self], [("axis", Attr::Int(index(axis)))])
    }

    #[track_caller]
    fn reduce(self, op_type: &str, axes: &[usize], keep: bool) -> Self {
        let attrs = [("keepdims", Attr::Int(i64::from(keep)))];
        match axes {
            [] => self.builder.apply(op_type, &[self], attrs),
            axes => self.builder.apply(op_type, &[self, self.builder.ints(&indices(axes))], attrs),
        }
    }
}

/// Returns an axis or size as ONNX writes it.
pub fn index(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// Returns axes or sizes as ONNX writes them.
pub fn indices(values: &[usize]) -> Vec<i64> {
    values.iter().map(|&n| index(n)).collect()
}
