//! Tests the rounding and bias correction of a layer against rounding to nearest on held-out inputs.

use ndarray::{Array2, ArrayView2, Axis};

use crate::calibrate::{Sample, patches};
use crate::ir::Node;
use crate::layers::Rows;
use crate::quant::{Grid, QuantizedTensor};

/// Input rows of a trial.
const ROWS: usize = 256;
/// The tolerated squared error of a layer relative to rounding to nearest: one decibel. The trial's inputs only
/// approximate real ones, so a smaller difference is not significant.
const HARMLESS: f64 = 1.259;

/// The inputs of a layer on trial and the float layer's outputs, group by group.
pub(super) struct Trial {
    groups: Vec<Group>,
}

struct Group {
    /// After quantization.
    x: Array2<f32>,
    y: Array2<f32>,
}

/// The error of each output channel: its mean and its mean square.
struct Errors(Vec<(f64, f64)>);

/// The parts of a result that are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// The rounding, and the index of the first shift that does no harm.
    Rounding(Option<usize>),
    /// Rounding to nearest.
    Nearest,
}

impl Trial {
    /// Returns the trial of `node` on `probes` of its input, clipped to the range of `grid`: saturation is no property
    /// of a weight or a bias. `None` for operators whose patches are not supported.
    pub fn of(node: &Node, rows: &Rows, probes: &Sample, grid: &Grid) -> Option<Self> {
        let (lo, hi) = grid.range(0);
        let width = rows.width();
        let group = |group: usize| {
            let x: Vec<f32> = patches(node, rows, probes, group, ROWS)?.into_iter().map(|v| v.clamp(lo, hi)).collect();
            let x = Array2::from_shape_vec((x.len() / width, width), x).ok()?;
            let y = x.dot(&weight(&rows.values, rows, group).t());
            Some(Group { x: x.mapv(|v| grid.dequantize(grid.quantize(v, 0), 0)), y })
        };
        Some(Self { groups: (0..rows.group).map(group).collect::<Option<_>>()? })
    }

    fn errors(&self, rows: &Rows, tensor: &QuantizedTensor) -> Errors {
        let values = rows.gather(&tensor.dequantize());
        let group = |(index, Group { x, y }): (usize, &Group)| {
            let error = x.dot(&weight(&values, rows, index).t()) - y;
            let of = |channel: ndarray::ArrayView1<f32>| {
                let n = channel.len().max(1) as f64;
                let sum = |f: fn(f64) -> f64| channel.iter().map(|&e| f(f64::from(e))).sum::<f64>() / n;
                (sum(|e| e), sum(|e| e * e))
            };
            error.axis_iter(Axis(1)).map(of).collect::<Vec<_>>()
        };
        Errors(self.groups.iter().enumerate().flat_map(group).collect())
    }

    /// Returns the parts of the result to use: `rounded`, and the first of `shifts` (candidate bias corrections, best
    /// first) that does no more harm than `nearest` alone.
    pub fn verdict(&self, rows: &Rows, [nearest, rounded]: [&QuantizedTensor; 2], shifts: &[&[f64]]) -> Use {
        let limit = HARMLESS * self.errors(rows, nearest).behind(None);
        let found = self.errors(rows, rounded);
        let with: Vec<f64> = shifts.iter().map(|&shift| found.behind(Some(shift))).collect();
        let without = found.behind(None);
        let shares: Vec<f64> = with.iter().chain([&without]).map(|error| error / limit).collect();
        tracing::debug!("squared errors over what does no harm, with shifts and without: {shares:.3?}");
        match with.iter().position(|&error| error <= limit) {
            Some(first) => Use::Rounding(Some(first)),
            None if without <= limit => Use::Rounding(None),
            None => Use::Nearest,
        }
    }
}

impl Errors {
    /// Returns the squared error of all channels after subtracting `shift`.
    fn behind(&self, shift: Option<&[f64]>) -> f64 {
        let at = |channel: usize| shift.and_then(|shift| shift.get(channel)).copied().unwrap_or(0.0);
        self.0.iter().enumerate().map(|(c, (mean, square))| square - 2.0 * at(c) * mean + at(c).powi(2)).sum()
    }
}

fn weight<'a>(values: &'a [f32], rows: &Rows, group: usize) -> ArrayView2<'a, f32> {
    let (width, outputs) = (rows.width(), rows.outputs / rows.group);
    let own = &values[group * outputs * width..(group + 1) * outputs * width];
    ArrayView2::from_shape((outputs, width), own).expect("a group has as many rows as the others")
}
