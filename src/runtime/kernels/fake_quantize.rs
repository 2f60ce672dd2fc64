//! Fake quantization and its gradients, in one pass over memory each. Every version of a kernel gives the same bits: no
//! fused multiply-add, and sums in a fixed number of lanes.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::Execution;
use super::job::{Job, dispatch};

/// Elements in a piece of work.
const PIECE: usize = 1 << 14;
/// Sums of products that run beside each other.
const LANES: usize = 64;
/// Elements that are summed in f32 before they are added to a sum in f64.
const IN_SINGLE: usize = 2048;

/// The rounding of a tensor.
#[derive(Clone, Copy, Debug)]
pub struct Rounding<'a> {
    /// Scales: one, or one per index of an axis.
    pub scales: &'a [f32],
    /// Elements of one index of the axis; the whole tensor with a single scale.
    pub inner: usize,
    /// The lowest and the highest level, in scales.
    pub levels: [f32; 2],
}

impl<'a> Rounding<'a> {
    /// Returns the rounding of a tensor of `shape` with `scales` along `axis`, or with a single one for none.
    ///
    /// # Errors
    /// When the arguments do not fit together.
    pub fn new(scales: &'a [f32], levels: [f32; 2], shape: &[usize], axis: Option<usize>) -> Result<Self, String> {
        let (expected, inner) = match axis {
            None => (1, shape.iter().product::<usize>().max(1)),
            Some(axis) if axis < shape.len() => (shape[axis], shape[axis + 1..].iter().product::<usize>().max(1)),
            Some(axis) => return Err(format!("axis {axis} of a tensor {shape:?}")),
        };
        if scales.len() != expected {
            return Err(format!("expected {expected} scales for {shape:?} and axis {axis:?}, found {}", scales.len()));
        }
        let [lo, hi] = levels;
        if lo > hi || lo.is_nan() || hi.is_nan() {
            return Err(format!("expected lo no larger than hi, found {lo} and {hi}"));
        }
        Ok(Self { scales, inner, levels })
    }

    /// Returns the number of the scale and the range of every run of elements in a piece that share a scale.
    fn runs(&self, piece: usize, len: usize) -> impl Iterator<Item = (usize, Range<usize>)> {
        let first = piece * PIECE;
        let mut at = 0;
        std::iter::from_fn(move || {
            let row = (first + at) / self.inner;
            let run = at..len.min((row + 1) * self.inner - first);
            at = run.end;
            (!run.is_empty()).then_some((row % self.scales.len().max(1), run))
        })
    }
}

/// Writes `scale · round(clip(x / scale, lo, hi))` to `y`, halves rounded to even.
///
/// # Errors
/// Tensors of different lengths.
pub fn fake_quantize(x: &[f32], rounding: &Rounding, y: &mut [f32], execution: Execution) -> Result<(), String> {
    if x.len() != y.len() {
        return Err(format!("expected y of {} elements, found {}", x.len(), y.len()));
    }
    let pieces: Vec<Mutex<&mut [f32]>> = y.chunks_mut(PIECE).map(Mutex::new).collect();
    (execution.spread)(pieces.len(), &|piece| {
        let mut y = pieces[piece].lock().unwrap_or_else(PoisonError::into_inner);
        dispatch(execution.instructions, Forward { rounding, piece, x: &x[piece * PIECE..][..y.len()], y: &mut y });
    });
    Ok(())
}

/// The tensors of [`fake_quantize_gradient`].
#[derive(Debug)]
pub struct QuantizerGradient<'a> {
    /// The quantizer's input.
    pub x: &'a [f32],
    /// The gradient of its output.
    pub dy: &'a [f32],
    /// Receives the gradient of `x`.
    pub dx: &'a mut [f32],
    /// Receives the gradient of the scales.
    pub dscale: &'a mut [f32],
}

/// Writes to `dx` `dy` where `lo ≤ x / scale ≤ hi` and 0 elsewhere, and to `dscale` for each scale the sum of `dy`
/// times `round(v) - v` there and `lo` or `hi` elsewhere, `v = x / scale` (Esser et al. 2020, equations 2 and 3).
///
/// # Errors
/// Tensors of different lengths.
pub fn fake_quantize_gradient(
    tensors: QuantizerGradient,
    rounding: &Rounding,
    execution: Execution,
) -> Result<(), String> {
    let QuantizerGradient { x, dy, dx, dscale } = tensors;
    if x.len() != dx.len() || x.len() != dy.len() || dscale.len() != rounding.scales.len() {
        let found = [dy.len(), dx.len(), dscale.len()];
        let expected = [x.len(), x.len(), rounding.scales.len()];
        return Err(format!("expected dy, dx and dscale of {expected:?} elements, found {found:?}"));
    }
    type Sums = Vec<(usize, f64)>;
    let pieces: Vec<Mutex<(&mut [f32], Sums)>> = dx.chunks_mut(PIECE).map(|dx| Mutex::new((dx, Vec::new()))).collect();
    (execution.spread)(pieces.len(), &|piece| {
        let mut guard = pieces[piece].lock().unwrap_or_else(PoisonError::into_inner);
        let (dx, sums) = &mut *guard;
        let range = piece * PIECE..piece * PIECE + dx.len();
        dispatch(execution.instructions, Backward { rounding, piece, x: &x[range.clone()], dy: &dy[range], dx, sums });
    });
    let mut totals = vec![0.0f64; dscale.len()];
    for piece in pieces {
        let (_, sums) = piece.into_inner().unwrap_or_else(PoisonError::into_inner);
        sums.into_iter().for_each(|(scale, sum)| totals[scale] += sum);
    }
    for (dscale, total) in dscale.iter_mut().zip(totals) {
        let single = total as f32;
        *dscale = single;
    }
    Ok(())
}

/// As the operator Clip: the order of the comparisons decides about NaN and the sign of zero.
#[inline(always)]
fn clip(v: f32, [lo, hi]: [f32; 2]) -> f32 {
    let v = if v < lo { lo } else { v };
    if v > hi { hi } else { v }
}

struct Forward<'a> {
    rounding: &'a Rounding<'a>,
    piece: usize,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Job for Forward<'_> {
    #[inline(always)]
    fn run(self) {
        let Self { rounding, piece, x, y } = self;
        for (i, range) in rounding.runs(piece, x.len()) {
            let scale = rounding.scales[i];
            for (x, y) in x[range.clone()].iter().zip(&mut y[range]) {
                *y = clip(x / scale, rounding.levels).round_ties_even() * scale;
            }
        }
    }
}

struct Backward<'a> {
    rounding: &'a Rounding<'a>,
    piece: usize,
    x: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
    sums: &'a mut Vec<(usize, f64)>,
}

impl Job for Backward<'_> {
    #[inline(always)]
    fn run(self) {
        let Self { rounding, piece, x, dy, dx, sums } = self;
        for (i, range) in rounding.runs(piece, x.len()) {
            let (x, dy) = (&x[range.clone()], &dy[range.clone()]);
            sums.push((i, gradient(x, dy, rounding.scales[i], rounding.levels, &mut dx[range])));
        }
    }
}

#[inline(always)]
fn gradient(x: &[f32], dy: &[f32], scale: f32, levels: [f32; 2], dx: &mut [f32]) -> f64 {
    let mut total = 0.0f64;
    for ((x, dy), dx) in x.chunks(IN_SINGLE).zip(dy.chunks(IN_SINGLE)).zip(dx.chunks_mut(IN_SINGLE)) {
        let ((x, x_rest), (dy, dy_rest)) = (x.as_chunks::<LANES>(), dy.as_chunks::<LANES>());
        let (dx, dx_rest) = dx.as_chunks_mut::<LANES>();
        let mut lanes = [0.0f32; LANES];
        for ((x, dy), dx) in x.iter().zip(dy).zip(dx) {
            for i in 0..LANES {
                let (inside, slope) = slopes(x[i], scale, levels);
                dx[i] = if inside { dy[i] } else { 0.0 };
                lanes[i] += dy[i] * slope;
            }
        }
        for ((x, dy), dx) in x_rest.iter().zip(dy_rest).zip(dx_rest) {
            let (inside, slope) = slopes(*x, scale, levels);
            *dx = if inside { *dy } else { 0.0 };
            total += f64::from(dy * slope);
        }
        total += lanes.into_iter().map(f64::from).sum::<f64>();
    }
    total
}

/// Returns whether the clip leaves `x` as it is, and the slope of its rounded value by the scale.
#[inline(always)]
fn slopes(x: f32, scale: f32, levels: [f32; 2]) -> (bool, f32) {
    let v = x / scale;
    let held = clip(v, levels);
    let inside = held == v;
    (inside, held.round_ties_even() - if inside { v } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use super::super::{Instructions, Spread, in_turn};
    use super::*;

    #[test]
    fn all_instructions_and_orders_give_the_same_bits() {
        let number = |i: usize| ((i as u32).wrapping_mul(2_654_435_761) >> 8) as f32 / 524_288.0 - 16.0;
        let backwards = |pieces: usize, work: &(dyn Fn(usize) + Sync)| (0..pieces).rev().for_each(work);
        let shape = [5, 7, 1003];
        let x: Vec<f32> = (0..shape.iter().product()).map(number).collect();
        let dy: Vec<f32> = (0..x.len()).map(|i| number(i + 99)).collect();
        for (axis, scales) in [(None, 1), (Some(0), 5), (Some(1), 7), (Some(2), 1003)] {
            let scales: Vec<f32> = (0..scales).map(|i| 0.7 + i as f32 / 999.0).collect();
            let rounding = Rounding::new(&scales, [-8.0, 7.0], &shape, axis).unwrap();
            let run = |instructions: Instructions, spread: Spread| {
                let execution = Execution { instructions, spread };
                let (mut y, mut dx, mut dscale) = (vec![0.0; x.len()], vec![0.0; x.len()], vec![0.0; scales.len()]);
                fake_quantize(&x, &rounding, &mut y, execution).unwrap();
                let tensors = QuantizerGradient { x: &x, dy: &dy, dx: &mut dx, dscale: &mut dscale };
                fake_quantize_gradient(tensors, &rounding, execution).unwrap();
                [y, dx, dscale].map(|values| values.into_iter().map(f32::to_bits).collect::<Vec<_>>())
            };
            let expected = run(Instructions::available()[0], &in_turn);
            for best in Instructions::available() {
                assert!(run(best, &backwards) == expected, "{axis:?}, {best:?}");
            }
        }
    }
}
