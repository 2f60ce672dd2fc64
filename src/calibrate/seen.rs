//! Statistics of a layer's input over synthetic inputs: means, and block-wise covariances.

use std::ops::Range;

use super::{Sample, patches};
use crate::ir::Node;
use crate::layers::Rows;
use crate::parallel;
use crate::quant::{Grid, Metric};

/// Input rows for means and covariances; twice and half as many measured the same.
const ROWS: usize = 1024;
/// The most columns of a covariance: 64 channels of 3x3 kernels. Wider layers are split into independent blocks.
const BLOCK: usize = 576;
/// Correlations are shrunk by the first fraction, and variances are at least the second fraction of their mean, since
/// synthetic inputs differ from real ones. Fractions from 0 to 0.2, and 0.01, measured about the same.
const SHRINKAGE: (f32, f32) = (0.05, 0.01);

/// The input statistics of one group of a layer.
pub struct Seen {
    /// The mean of each column.
    pub means: Means,
    /// The covariance of each block of columns after quantization; none where all columns are constant.
    pub blocks: Vec<(Range<usize>, Option<Metric>)>,
}

/// Column means of one group.
pub struct Means {
    /// Before quantization.
    pub before: Vec<f32>,
    /// Before quantization, of values clipped to the range of the grid.
    pub within: Vec<f32>,
    /// After quantization.
    pub behind: Vec<f32>,
}

impl Means {
    /// Returns the means of inputs that have both values: `before` in the float network, `behind` in the quantized one.
    pub fn of_both(before: Vec<f32>, behind: Vec<f32>) -> Self {
        Self { within: before.clone(), before, behind }
    }
}

impl Seen {
    /// Returns the input statistics of each group of `node` when `grid` quantizes its input; `None` for operators whose
    /// patches are not supported.
    pub fn of(node: &Node, rows: &Rows, input: &Sample, grid: &Grid, threads: usize) -> Option<Vec<Self>> {
        let seen = |group| Some(Self::of_patches(patches(node, rows, input, group, ROWS)?, rows, grid, threads));
        (0..rows.group).map(seen).collect()
    }

    fn of_patches(mut x: Vec<f32>, rows: &Rows, grid: &Grid, threads: usize) -> Self {
        let width = rows.width();
        let before = column_means(&x, width);
        let (lo, hi) = grid.range(0);
        x.iter_mut().for_each(|v| *v = v.clamp(lo, hi));
        let within = column_means(&x, width);
        x.iter_mut().for_each(|v| *v = grid.dequantize(grid.quantize(*v, 0), 0));
        let behind = column_means(&x, width);
        for row in x.chunks_mut(width) {
            row.iter_mut().zip(&behind).for_each(|(v, m)| *v -= m);
        }
        let x = ndarray::ArrayView2::from_shape((x.len() / width, width), &x).expect("patches have the width of rows");
        let blocks = parallel::map(threads, column_blocks(width, rows.taps), |range| {
            let columns = x.slice(ndarray::s![.., range.clone()]);
            let gram = columns.t().dot(&columns);
            (range.clone(), metric(range.len(), gram.iter().copied().collect()))
        });
        Self { blocks, means: Means { before, within, behind } }
    }
}

/// Returns the ranges of columns whose covariances are taken together, each of whole kernels of `taps` elements.
pub fn column_blocks(width: usize, taps: usize) -> Vec<Range<usize>> {
    let step = (BLOCK / taps).max(1) * taps;
    (0..width).step_by(step).map(|start| start..(start + step).min(width)).collect()
}

/// Returns the mean of each column of rows of `width` values.
pub fn column_means(x: &[f32], width: usize) -> Vec<f32> {
    let mut sums = vec![0.0f64; width];
    for row in x.chunks(width) {
        sums.iter_mut().zip(row).for_each(|(s, &v)| *s += f64::from(v));
    }
    let count = (x.len() / width).max(1) as f64;
    sums.into_iter().map(|s| (s / count) as f32).collect()
}

/// The scale of `gram` does not matter: only errors of the same row are compared.
fn metric(n: usize, mut gram: Vec<f32>) -> Option<Metric> {
    let (shrink, floor) = SHRINKAGE;
    let average = (0..n).map(|i| gram[i * n + i]).sum::<f32>() / n as f32;
    for (k, v) in gram.iter_mut().enumerate() {
        if k / n == k % n {
            *v += floor * average;
        } else {
            *v *= 1.0 - shrink;
        }
    }
    Metric::new(n, gram)
}
