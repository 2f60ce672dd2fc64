//! Our own operators on channels and positions.

use crate::autodiff::{BackwardCall, Gradients};
use crate::expr::{CHANNEL_AFFINE_GRADIENT, Expr, SELECT_GRADIENT, index};
use crate::ir::Attr;

/// mean and variance of the n elements of each channel: dmean/n + 2/n·dvariance·(x - mean).
pub fn channel_moments<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
    let (x, mean) = (s.x(0)?, s.y()?);
    let gradient = |i: usize| s.grads.get(i).copied().flatten();
    let share = 1.0 / (x.len() / mean.len().max(1)) as f32;
    let none = || s.builder().zeros(mean.dtype(), &mean.shape());
    let a = gradient(1).map(|dvariance| dvariance * (2.0 * share));
    let shift = a.map(|a| a * mean);
    let b = match (gradient(0).map(|dmean| dmean * share), shift) {
        (Some(b), Some(shift)) => b - shift,
        (Some(b), None) => b,
        (None, shift) => shift.map_or_else(none, |shift| -shift),
    };
    Ok(vec![Some(x.channel_affine(a.unwrap_or_else(none), b))])
}

/// y = a·x + b with a and b of each channel: a·dy, Σ dy·x, Σ dy.
pub fn channel_affine<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
    let (x, a, dy) = (s.x(0)?, s.x(1)?, s.dy()?);
    if s.wants(1) {
        let gradients = s.builder().own(CHANNEL_AFFINE_GRADIENT, &[x, a, dy], [], 3);
        return Ok(gradients.into_iter().map(Some).collect());
    }
    let along: Vec<usize> = (0..x.rank()).filter(|&axis| axis != 1).collect();
    let dx = |()| -> Expr<'b> { dy.channel_affine(a, s.builder().zeros(a.dtype(), &a.shape())) };
    Ok(vec![s.wants(0).then_some(()).map(dx), None, s.wants(2).then(|| dy.sum(&along, false))])
}

/// y is x at the crossings of rows and columns: each element of dy is added to its element of x.
pub fn select<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
    let shape = s.x(0)?.shape();
    let size = |axis: usize| Attr::Int(index(shape[axis]));
    let attrs = [("height", size(2)), ("width", size(3))];
    let dx = s.builder().own(SELECT_GRADIENT, &[s.dy()?, s.x(1)?, s.x(2)?], attrs, 1);
    Ok(vec![Some(dx[0]), None, None])
}
