//! Quantizers with learned steps, as expressions.

use crate::expr::{Builder, Expr};
use crate::ir::Tensor;
use crate::quant::Grid;

/// Returns `s · round(clip(x / s, n, p))`: `x` on the grid of `scheme` and zero points of `grid` with the trained steps
/// `scale` (`[1]` or one per channel), which is what QuantizeLinear and DequantizeLinear make of it.
///
/// The gradient passes the rounding as if it were not there, and stops where the clip cuts off: `∂/∂x` is 1 inside, and
/// `∂/∂s` is `round(x/s) - x/s` inside and `n` or `p` outside (LSQ; Esser et al. 2020, equations 1 to 3). Their factor
/// on the gradient of `s` is left to the optimiser's mask.
#[track_caller]
pub fn fake_quantize<'b>(x: Expr<'b>, scale: Expr<'b>, grid: &Grid) -> Expr<'b> {
    let scale = scale.reshape(&aligned(grid, x.rank()));
    clip(x / scale, grid).straight_through_round() * scale
}

/// Returns the integers, zero point subtracted, that [`fake_quantize`] multiplies with the steps.
#[track_caller]
pub fn integers<'b>(x: Expr<'b>, scale: Expr<'b>, grid: &Grid) -> Expr<'b> {
    clip(x / scale.reshape(&aligned(grid, x.rank())), grid).round()
}

/// Returns the shape of `[channels]` along the axis of `grid` among `rank` axes.
fn aligned(grid: &Grid, rank: usize) -> Vec<usize> {
    // Behind a mistake the rank is 0.
    let Some(axis) = grid.scheme.axis.filter(|&axis| axis < rank) else { return Vec::new() };
    let mut shape = vec![1; rank];
    shape[axis] = grid.scale.len();
    shape
}

fn clip<'b>(x: Expr<'b>, grid: &Grid) -> Expr<'b> {
    let levels: Vec<(f32, f32)> = (0..grid.zero_point.len()).map(|channel| grid.levels(channel)).collect();
    match levels.as_slice() {
        [(lo, hi), others @ ..] if others.iter().all(|other| *other == (*lo, *hi)) => x.clip(*lo, *hi),
        _ => {
            let bound = |of: fn(&(f32, f32)) -> f32| per_channel(x.builder(), &aligned(grid, x.rank()), &levels, of);
            x.max(bound(|level| level.0)).min(bound(|level| level.1))
        }
    }
}

fn per_channel<'b>(
    builder: &'b Builder,
    shape: &[usize],
    levels: &[(f32, f32)],
    of: fn(&(f32, f32)) -> f32,
) -> Expr<'b> {
    let values: Vec<f32> = levels.iter().map(of).collect();
    builder.constant("levels", Tensor::from_f32(shape, &values))
}
