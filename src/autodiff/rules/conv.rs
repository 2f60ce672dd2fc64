//! Convolutions, in standard operators: the gradient of the input by a transposed convolution, that of the weight by a
//! convolution in which batch and channels, and strides and dilations, change places.

use super::window::Window;
use crate::autodiff::{Gradients, Step};
use crate::expr::Expr;

/// y = w ∗ x + b.
pub fn conv<'b>(s: &Step<'_, 'b>) -> Gradients<'b> {
    let (x, w, dy) = (s.x(0)?, s.x(1)?, s.dy()?);
    let window = Window::read(s, &w.shape()[2..], &x.shape()[2..], &dy.shape()[2..])?;
    let group = s.attrs.int("group", 1);
    let dx = || s.builder().apply("ConvTranspose", &[dy, w], window.transposed(group));
    let dw = || weight_gradient(s, (x, dy), &window, group);
    Ok(vec![s.wants(0).then(dx), s.wants(1).then(dw), s.wants(2).then(|| over_channels(dy))])
}

/// y = wᵀ ∗ x + b: a convolution of dy gives the gradient of x.
pub fn conv_transpose<'b>(s: &Step<'_, 'b>) -> Gradients<'b> {
    let (x, w, dy) = (s.x(0)?, s.x(1)?, s.dy()?);
    let window = Window::read(s, &w.shape()[2..], &dy.shape()[2..], &x.shape()[2..])?;
    let group = s.attrs.int("group", 1);
    let dx = || s.builder().apply("Conv", &[dy, w], window.attributes(group));
    let dw = || weight_gradient(s, (dy, x), &window, group);
    Ok(vec![s.wants(0).then(dx), s.wants(1).then(dw), s.wants(2).then(|| over_channels(dy))])
}

/// Returns the gradient `[M, C/g, k…]` of the weight that makes `small: [N, M, …]` from `large: [N, C, …]`:
/// each group of channels becomes the batch, and the gradient of its results the kernel.
fn weight_gradient<'b>(
    s: &Step<'_, 'b>,
    (large, small): (Expr<'b>, Expr<'b>),
    window: &Window,
    group: i64,
) -> Expr<'b> {
    let groups = usize::try_from(group).unwrap_or(1).max(1);
    let (shape, spatial) = (large.shape(), window.rank());
    let (batch, channels) = (shape[0], shape[1]);
    let sizes = &shape[2..];
    let apart = [&[batch, groups, channels / groups], sizes].concat();
    let order: Vec<usize> = [2, 1, 0].into_iter().chain(3..3 + spatial).collect();
    let merged = [&[channels / groups, groups * batch], sizes].concat();
    let image = large.reshape(&apart).transpose(&order).reshape(&merged);
    let swapped: Vec<usize> = [1, 0].into_iter().chain(2..2 + spatial).collect();
    let exchanged = Window { strides: window.dilations.clone(), dilations: window.strides.clone(), ..window.clone() };
    let found = s.builder().apply("Conv", &[image, small.transpose(&swapped)], exchanged.attributes(group));
    let kernel: Vec<usize> = window.kernel.iter().filter_map(|&size| usize::try_from(size).ok()).collect();
    within(found, &kernel).transpose(&swapped)
}

/// Returns the first `sizes` positions along each spatial axis: windows that stop short of the end leave more.
fn within<'b>(found: Expr<'b>, sizes: &[usize]) -> Expr<'b> {
    sizes.iter().enumerate().fold(found, |found, (i, &size)| match found.shape().get(i + 2) {
        Some(&all) if all > size => found.slice(i + 2, 0..size),
        _ => found,
    })
}

/// Returns the sum over everything but the channels.
fn over_channels(dy: Expr<'_>) -> Expr<'_> {
    let axes: Vec<usize> = (0..dy.rank()).filter(|&axis| axis != 1).collect();
    dy.sum(&axes, false)
}
