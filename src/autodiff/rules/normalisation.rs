//! Normalisations.

use crate::autodiff::{Gradients, Step};
use crate::error::Result;
use crate::expr::Expr;

/// y = (x - mean)·scale/√(var + ε) + bias with given mean and variance of each channel.
pub fn batch_normalization<'b>(s: &Step<'_, 'b>) -> Gradients<'b> {
    if s.attrs.int("training_mode", 0) != 0 {
        return Err(s.error("it is in training mode; compose it of means instead"));
    }
    let (x, dy) = (s.x(0)?, s.dy()?);
    let mut aligned = vec![1; x.rank()];
    aligned[1] = x.shape()[1];
    let column = |i: usize| -> Result<Expr<'b>> { Ok(s.x(i)?.reshape(&aligned)) };
    let (scale, mean, var) = (column(1)?, column(3)?, column(4)?);
    let inverse = (var + s.attrs.float("epsilon", 1e-5)).sqrt().reciprocal();
    let axes: Vec<usize> = (0..x.rank()).filter(|&axis| axis != 1).collect();
    let per_channel = |e: Expr<'b>| e.sum(&axes, false);
    let normal = || (x - mean) * inverse;
    let channels = [x.shape()[1]];
    Ok(vec![
        s.wants(0).then(|| dy * (scale * inverse)),
        s.wants(1).then(|| per_channel(dy * normal())),
        s.wants(2).then(|| per_channel(dy)),
        s.wants(3).then(|| -(per_channel(dy) * (scale * inverse).reshape(&channels))),
        s.wants(4).then(|| per_channel(dy * normal()) * (scale * inverse.square() * -0.5).reshape(&channels)),
    ])
}

/// y = n·scale + bias with n = (x - mean)/√(var + ε) over all axes from `axis` on:
/// (g - mean(g) - n·mean(g·n))/√(var + ε) with g = dy·scale.
pub fn layer_normalization<'b>(s: &Step<'_, 'b>) -> Gradients<'b> {
    let (x, scale, dy) = (s.x(0)?, s.x(1)?, s.dy()?);
    let axes: Vec<usize> = (s.axis(-1)?..x.rank()).collect();
    let centred = x - x.mean(&axes, true);
    let inverse = (centred.square().mean(&axes, true) + s.attrs.float("epsilon", 1e-5)).sqrt().reciprocal();
    let normal = centred * inverse;
    let g = dy * scale;
    let dx = || (g - g.mean(&axes, true) - normal * (g * normal).mean(&axes, true)) * inverse;
    Ok(vec![s.wants(0).then(dx), s.wants(1).then(|| dy * normal), s.wants(2).then_some(dy)])
}
