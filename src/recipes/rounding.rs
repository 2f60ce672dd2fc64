//! Rounding of a weight against the covariance of its layer's inputs, with scales fitted to the integers.

use std::ops::Range;

use super::weights::tensor_of;
use crate::calibrate::Seen;
use crate::layers::Rows;
use crate::parallel;
use crate::quant::{Compensated, Grid, QuantizedTensor, RowGrid, compensate, scale_terms};

/// Rounds of fitting the scale to the integers and rounding again.
const FITS: usize = 2;
/// Rows of a weight per parallel task.
const ROWS: usize = 16;

/// A weight with scales and integers fitted to each other.
pub(super) struct Fitted {
    pub grid: Grid,
    /// One byte each, in the order of the rows.
    integers: Vec<u8>,
}

impl Fitted {
    /// Returns the weight fitted from `nearest` to the input statistics `seen` of each group.
    pub fn of(rows: &Rows, nearest: &QuantizedTensor, seen: &[Seen], threads: usize) -> Self {
        let mut grid = nearest.grid.clone();
        let mut integers = rows.gather(&nearest.bytes);
        let own_scales = grid.scale.len() > 1;
        let width = rows.width();
        let (lo, hi) = grid.scheme.int_range();
        let one = |o: usize, row: &[f32], integers: &mut [u8]| -> f32 {
            let channel = if own_scales { o } else { 0 };
            let zero_point = grid.zero_point[channel];
            let start =
                RowGrid { scale: grid.scale[channel], range: ((lo - zero_point) as f32, (hi - zero_point) as f32) };
            let fitted = fit_row(row, start, &seen[rows.group_of(o)], if own_scales { FITS } else { 0 });
            for (block, rounded) in fitted.blocks {
                let pairs = integers[block].iter_mut().zip(&rounded.integers);
                pairs.for_each(|(i, &q)| *i = (q as i32 + zero_point).to_le_bytes()[0]);
            }
            fitted.scale
        };
        let stretches = rows.values.chunks(ROWS * width).zip(integers.chunks_mut(ROWS * width)).enumerate();
        let scales = parallel::map(threads, stretches, |(i, (values, integers))| -> Vec<f32> {
            let pairs = values.chunks(width).zip(integers.chunks_mut(width)).enumerate();
            pairs.map(|(k, (row, integers))| one(i * ROWS + k, row, integers)).collect()
        });
        if own_scales {
            grid.scale = scales.concat();
        }
        Self { grid, integers }
    }

    /// Returns the weight, with the rows of `nearest` where the scales that biases need (`fitting`) differ.
    pub fn within(mut self, rows: &Rows, nearest: &QuantizedTensor, fitting: &[f32]) -> QuantizedTensor {
        let old = rows.gather(&nearest.bytes);
        for (channel, scale) in fitting.iter().enumerate() {
            if *scale == self.grid.scale[channel] {
                continue;
            }
            let range =
                if fitting.len() == 1 { 0..old.len() } else { channel * rows.width()..(channel + 1) * rows.width() };
            self.integers[range.clone()].copy_from_slice(&old[range]);
            self.grid.scale[channel] = nearest.grid.scale[channel].max(*scale);
        }
        tensor_of(rows, self.grid, &self.integers)
    }
}

/// A row's scale, and its blocks of varying inputs.
struct FittedRow {
    scale: f32,
    blocks: Vec<(Range<usize>, Compensated)>,
}

/// Rounds a row, then fits its scale to the integers and rounds again, `fits` times or until the loss stops decreasing.
fn fit_row(row: &[f32], start: RowGrid, seen: &Seen, fits: usize) -> FittedRow {
    let metrics = || seen.blocks.iter().filter_map(|(range, metric)| Some((range.clone(), metric.as_ref()?)));
    let round = |scale: f32| -> (f64, FittedRow) {
        let block = |(range, metric): (Range<usize>, _)| {
            (range.clone(), compensate(&row[range], RowGrid { scale, ..start }, metric))
        };
        let blocks: Vec<_> = metrics().map(block).collect();
        (blocks.iter().map(|b| b.1.loss()).sum(), FittedRow { scale, blocks })
    };
    let mut best = round(start.scale);
    let images: Vec<Vec<f32>> = match fits {
        0 => Vec::new(),
        _ => metrics().map(|(range, metric)| metric.times(&row[range])).collect(),
    };
    for _ in 0..fits {
        let terms = best
            .1
            .blocks
            .iter()
            .zip(&images)
            .map(|((range, rounded), image)| scale_terms(&row[range.clone()], image, best.1.scale, rounded));
        let (wq, qq) = terms.fold((0.0, 0.0), |sum, term| (sum.0 + term.0, sum.1 + term.1));
        let scale = (wq / qq) as f32;
        if !scale.is_normal() || scale <= 0.0 {
            break;
        }
        let next = round(scale);
        if next.0 >= best.0 {
            break;
        }
        best = next;
    }
    best.1
}
