//! Convolutions: the gradient of the input is a transposed convolution.

use crate::autodiff::{BackwardCall, Gradients};
use crate::expr::{CONV_WEIGHT_GRADIENT, Expr};
use crate::ir::Attr;
use crate::shape::ConvWindow;

/// y = w ∗ x + b.
pub fn conv<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
    let (x, w, dy) = (s.x(0)?, s.x(1)?, s.dy()?);
    let window = s.window(&w.shape()[2..], &x.shape()[2..], &dy.shape()[2..])?;
    let group = s.attrs.int("group", 1);
    let dx = || s.builder().apply("ConvTranspose", &[dy, w], window.transposed(group));
    let dw = || weight_gradient(s, x, dy, &window, group);
    Ok(vec![s.wants(0).then(dx), s.wants(1).then(dw), s.wants(2).then(|| over_channels(dy))])
}

/// y = wᵀ ∗ x + b: a convolution of dy gives the gradient of x.
pub fn conv_transpose<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
    let (x, w, dy) = (s.x(0)?, s.x(1)?, s.dy()?);
    let window = s.window(&w.shape()[2..], &dy.shape()[2..], &x.shape()[2..])?;
    let group = s.attrs.int("group", 1);
    let dx = || s.builder().apply("Conv", &[dy, w], window.attributes(group));
    let dw = || weight_gradient(s, dy, x, &window, group);
    Ok(vec![s.wants(0).then(dx), s.wants(1).then(dw), s.wants(2).then(|| over_channels(dy))])
}

/// Returns the gradient `[M, C/g, k…]` of the weight that makes `small: [N, M, …]` from `large: [N, C, …]`.
fn weight_gradient<'b>(
    s: &BackwardCall<'_, 'b>,
    large: Expr<'b>,
    small: Expr<'b>,
    window: &ConvWindow,
    group: i64,
) -> Expr<'b> {
    let mut attrs = window.attributes(group);
    attrs.set("kernel_shape", Attr::Ints(window.kernel.clone()));
    s.builder().own(CONV_WEIGHT_GRADIENT, &[large, small], attrs, 1)[0]
}

/// Returns the sum over everything but the channels.
fn over_channels(dy: Expr<'_>) -> Expr<'_> {
    let axes: Vec<usize> = (0..dy.rank()).filter(|&axis| axis != 1).collect();
    dy.sum(&axes, false)
}
