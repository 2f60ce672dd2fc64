//! Statistics and affine maps of channels, in one pass over memory each. Every version of a kernel gives the same bits:
//! no fused multiply-add, and sums in f64 in a fixed number of lanes.

use std::sync::{Mutex, PoisonError};

use super::channel_layout::{LANES, PIECE};
use super::job::{Job, dispatch};
use super::{Channels, Execution};

/// Writes the mean and the biased variance of each channel of `x`.
///
/// # Errors
/// For tensors of other lengths than `channels` requires.
pub fn channel_moments(
    x: &[f32],
    channels: &Channels,
    mean: &mut [f32],
    variance: &mut [f32],
    execution: Execution,
) -> Result<(), String> {
    channels.check(&[x.len()], &[mean.len(), variance.len()])?;
    let pieces: Vec<Mutex<Vec<f64>>> = x.chunks(PIECE).map(|_| Mutex::default()).collect();
    (execution.spread)(pieces.len(), &|piece| {
        let mut sums = pieces[piece].lock().unwrap_or_else(PoisonError::into_inner);
        let x = &x[piece * PIECE..x.len().min((piece + 1) * PIECE)];
        dispatch(execution.instructions, Moments { channels, piece, x, sums: &mut sums });
    });
    let kept = pieces.into_iter().map(|piece| piece.into_inner().unwrap_or_else(PoisonError::into_inner));
    let [sums, squares] = channels.totals(kept);
    let n = channels.len as f64 / (channels.blocks * channels.block) as f64;
    for (i, (mean, variance)) in mean.iter_mut().zip(variance).enumerate() {
        let exact = sums[i] / n;
        let around = squares[i] / n - exact * exact;
        // Not `max`, which makes a number of NaN.
        (*mean, *variance) = (exact as f32, if around < 0.0 { 0.0 } else { around as f32 });
    }
    Ok(())
}

/// The factor `a` and the offset `b` of each channel.
#[derive(Clone, Copy, Debug)]
pub struct Affine<'a> {
    /// `[C]`.
    pub a: &'a [f32],
    /// `[C]`.
    pub b: &'a [f32],
}

/// Writes `a·x + b` to `y` with `a` and `b` of each channel.
///
/// # Errors
/// For tensors of other lengths than `channels` requires.
pub fn channel_affine(
    x: &[f32],
    affine: Affine,
    channels: &Channels,
    y: &mut [f32],
    execution: Execution,
) -> Result<(), String> {
    channels.check(&[x.len(), y.len()], &[affine.a.len(), affine.b.len()])?;
    let pieces: Vec<Mutex<&mut [f32]>> = y.chunks_mut(PIECE).map(Mutex::new).collect();
    (execution.spread)(pieces.len(), &|piece| {
        let mut y = pieces[piece].lock().unwrap_or_else(PoisonError::into_inner);
        let x = &x[piece * PIECE..][..y.len()];
        dispatch(execution.instructions, Forward { channels, piece, x, affine, y: &mut y });
    });
    Ok(())
}

/// The tensors of [`channel_affine_gradient`].
#[derive(Debug)]
pub struct AffineGradient<'a> {
    /// The input of the affine map.
    pub x: &'a [f32],
    /// The factor of each channel.
    pub a: &'a [f32],
    /// The gradient of the output.
    pub dy: &'a [f32],
    /// Receives the gradient of `x`.
    pub dx: &'a mut [f32],
    /// Receives the gradient of `a`.
    pub da: &'a mut [f32],
    /// Receives the gradient of `b`.
    pub db: &'a mut [f32],
}

/// Writes `a·dy` to `dx`, and for each channel the sums of `dy·x` and of `dy` to `da` and `db`.
///
/// # Errors
/// For tensors of other lengths than `channels` requires.
pub fn channel_affine_gradient(
    tensors: AffineGradient,
    channels: &Channels,
    execution: Execution,
) -> Result<(), String> {
    let AffineGradient { x, a, dy, dx, da, db } = tensors;
    channels.check(&[x.len(), dy.len(), dx.len()], &[a.len(), da.len(), db.len()])?;
    let pieces: Vec<Mutex<(&mut [f32], Vec<f64>)>> =
        dx.chunks_mut(PIECE).map(|dx| Mutex::new((dx, Vec::new()))).collect();
    (execution.spread)(pieces.len(), &|piece| {
        let mut guard = pieces[piece].lock().unwrap_or_else(PoisonError::into_inner);
        let (dx, sums) = &mut *guard;
        let range = piece * PIECE..piece * PIECE + dx.len();
        let (x, dy) = (&x[range.clone()], &dy[range]);
        dispatch(execution.instructions, Backward { channels, piece, x, a, dy, dx, sums });
    });
    let kept = pieces.into_iter().map(|piece| piece.into_inner().unwrap_or_else(PoisonError::into_inner).1);
    for (to, totals) in [da, db].into_iter().zip(channels.totals(kept)) {
        for (to, total) in to.iter_mut().zip(totals) {
            let single = total as f32;
            *to = single;
        }
    }
    Ok(())
}

struct Moments<'a> {
    channels: &'a Channels,
    piece: usize,
    x: &'a [f32],
    sums: &'a mut Vec<f64>,
}

impl Job for Moments<'_> {
    #[inline(always)]
    fn run(self) {
        for (_, range) in self.channels.runs(self.piece, self.x.len()) {
            self.channels.keep(moments(&self.x[range]), self.sums);
        }
    }
}

/// Two sums per lane. The rest of a run is padded with zeros, since an index unknown at compile time would keep the
/// sums in memory.
struct Sums([f64; LANES], [f64; LANES]);

impl Sums {
    /// Adds elements and their products with others.
    #[inline(always)]
    fn add(&mut self, x: &[f32; LANES], others: &[f32; LANES]) {
        for lane in 0..LANES {
            let x = f64::from(x[lane]);
            self.0[lane] += x;
            self.1[lane] += x * f64::from(others[lane]);
        }
    }
}

fn filled(rest: &[f32]) -> [f32; LANES] {
    let mut lanes = [0.0; LANES];
    lanes[..rest.len()].copy_from_slice(rest);
    lanes
}

/// Returns sums of elements and of their squares.
#[inline(always)]
fn moments(x: &[f32]) -> [[f64; LANES]; 2] {
    let mut sums = Sums([0.0; LANES], [0.0; LANES]);
    let (whole, rest) = x.as_chunks::<LANES>();
    for x in whole {
        sums.add(x, x);
    }
    let rest = filled(rest);
    sums.add(&rest, &rest);
    [sums.0, sums.1]
}

struct Forward<'a> {
    channels: &'a Channels,
    piece: usize,
    x: &'a [f32],
    affine: Affine<'a>,
    y: &'a mut [f32],
}

impl Job for Forward<'_> {
    #[inline(always)]
    fn run(self) {
        for (block, range) in self.channels.runs(self.piece, self.x.len()) {
            let [a, b] = [self.affine.a, self.affine.b].map(|numbers| self.channels.lanes(numbers, block));
            let (x, x_rest) = self.x[range.clone()].as_chunks::<LANES>();
            let (y, y_rest) = self.y[range].as_chunks_mut::<LANES>();
            for (x, y) in x.iter().zip(y) {
                *y = std::array::from_fn(|lane| a[lane] * x[lane] + b[lane]);
            }
            for (lane, (x, y)) in x_rest.iter().zip(y_rest).enumerate() {
                *y = a[lane] * x + b[lane];
            }
        }
    }
}

struct Backward<'a> {
    channels: &'a Channels,
    piece: usize,
    x: &'a [f32],
    a: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
    sums: &'a mut Vec<f64>,
}

impl Job for Backward<'_> {
    #[inline(always)]
    fn run(self) {
        for (block, range) in self.channels.runs(self.piece, self.x.len()) {
            let a = self.channels.lanes(self.a, block);
            let sums = gradient(&self.x[range.clone()], &self.dy[range.clone()], &a, &mut self.dx[range]);
            self.channels.keep(sums, self.sums);
        }
    }
}

/// Writes `a·dy` and returns sums of `dy·x` and of `dy`.
#[inline(always)]
fn gradient(x: &[f32], dy: &[f32], a: &[f32; LANES], dx: &mut [f32]) -> [[f64; LANES]; 2] {
    let mut sums = Sums([0.0; LANES], [0.0; LANES]);
    let ((x, x_rest), (dy, dy_rest)) = (x.as_chunks::<LANES>(), dy.as_chunks::<LANES>());
    let (dx, dx_rest) = dx.as_chunks_mut::<LANES>();
    for ((x, dy), dx) in x.iter().zip(dy).zip(dx) {
        sums.add(dy, x);
        *dx = std::array::from_fn(|lane| a[lane] * dy[lane]);
    }
    sums.add(&filled(dy_rest), &filled(x_rest));
    dx_rest.iter_mut().zip(a).zip(dy_rest).for_each(|((dx, a), dy)| *dx = a * dy);
    [sums.1, sums.0]
}

#[cfg(test)]
mod tests {
    use super::super::{Instructions, Spread, in_turn};
    use super::*;

    #[test]
    fn all_instructions_and_orders_give_the_same_bits() {
        let number = |i: usize| ((i as u32).wrapping_mul(2_654_435_761) >> 8) as f32 / 524_288.0 - 15.0;
        let backwards = |pieces: usize, work: &(dyn Fn(usize) + Sync)| (0..pieces).rev().for_each(work);
        for (shape, count, block) in
            [(&[5, 24, 31, 29][..], 19, 8), (&[3, 32, 31, 29], 17, 16), (&[5, 7, 1003], 7, 1), (&[900, 33], 33, 1)]
        {
            let channels = Channels::new(shape, count, block).unwrap();
            let x: Vec<f32> = (0..channels.len).map(number).collect();
            let dy: Vec<f32> = (0..channels.len).map(|i| number(i + 99)).collect();
            let (a, b) = (&x[..count], &dy[..count]);
            let run = |instructions: Instructions, spread: Spread| {
                let execution = Execution { instructions, spread };
                let [mut y, mut dx] = [vec![0.0; x.len()], vec![0.0; x.len()]];
                let [mut mean, mut variance, mut da, mut db] = [0; 4].map(|_| vec![0.0; count]);
                channel_moments(&x, &channels, &mut mean, &mut variance, execution).unwrap();
                channel_affine(&x, Affine { a, b }, &channels, &mut y, execution).unwrap();
                let tensors = AffineGradient { x: &x, a, dy: &dy, dx: &mut dx, da: &mut da, db: &mut db };
                channel_affine_gradient(tensors, &channels, execution).unwrap();
                [y, dx, mean, variance, da, db].map(|values| values.into_iter().map(f32::to_bits).collect::<Vec<_>>())
            };
            let expected = run(Instructions::available()[0], &in_turn);
            for best in Instructions::available() {
                assert!(run(best, &backwards) == expected, "{shape:?}, {best:?}");
            }
        }
    }
}
