//! Fake quantizers with learned scales, as expressions.

use crate::expr::{Expr, FAKE_QUANTIZE, index};
use crate::ir::{Attr, Attrs};
use crate::quant::Grid;

/// Returns `s · round(clip(x / s, lo, hi))`: `x` quantized and dequantized as QuantizeLinear and DequantizeLinear do,
/// with the scheme and zero points of `grid` and the trained `scale` (`[1]` or one per channel).
///
/// The rounding is differentiated by the straight-through estimator and clipping stops gradients: `∂/∂x` is 1 inside,
/// and `∂/∂s` is `round(x/s) - x/s` inside and `lo` or `hi` outside (LSQ; Esser et al. 2020, equations 1 to 3). Their
/// gradient scale for `s` is left to the optimizer's mask.
#[track_caller]
pub fn fake_quantize<'b>(x: Expr<'b>, scale: Expr<'b>, grid: &Grid) -> Expr<'b> {
    let (lo, hi) = bounds(grid);
    let attrs = Attrs::from([
        ("lo", Attr::Floats(lo)),
        ("hi", Attr::Floats(hi)),
        ("axis", Attr::Int(grid.scheme.axis.map_or(-1, index))),
    ]);
    x.builder().own(FAKE_QUANTIZE, &[x, scale], attrs, 1)[0]
}

/// Returns the lowest and highest level, as one pair where all channels have the same.
fn bounds(grid: &Grid) -> (Vec<f32>, Vec<f32>) {
    let (mut lo, mut hi): (Vec<f32>, Vec<f32>) = (0..grid.zero_point.len()).map(|channel| grid.levels(channel)).unzip();
    if lo.iter().all(|&l| l == lo[0]) && hi.iter().all(|&h| h == hi[0]) {
        (lo, hi) = (lo[..1].to_vec(), hi[..1].to_vec());
    }
    (lo, hi)
}
