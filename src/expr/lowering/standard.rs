//! Lowering to standard ONNX operators, for every runtime and device.

use super::{Lowered, Lowering, Results};
use crate::error::Result;
use crate::expr::own::{
    CHANNEL_AFFINE, CHANNEL_AFFINE_GRADIENT, CHANNEL_MOMENTS, CONV_WEIGHT_GRADIENT, FAKE_QUANTIZE,
    FAKE_QUANTIZE_GRADIENT, OWN_DOMAIN, SELECT, SELECT_GRADIENT, STOP_GRADIENT,
};
use crate::expr::{Expr, index};
use crate::ir::{Attr, Attrs, Tensor};

/// Standard operators.
pub const STANDARD: Lowering = Lowering {
    rules: &[
        (OWN_DOMAIN, STOP_GRADIENT, stop_gradient),
        (OWN_DOMAIN, FAKE_QUANTIZE, fake_quantize),
        (OWN_DOMAIN, FAKE_QUANTIZE_GRADIENT, fake_quantize_gradient),
        (OWN_DOMAIN, CONV_WEIGHT_GRADIENT, conv_weight_gradient),
        (OWN_DOMAIN, CHANNEL_MOMENTS, channel_moments),
        (OWN_DOMAIN, CHANNEL_AFFINE, channel_affine),
        (OWN_DOMAIN, CHANNEL_AFFINE_GRADIENT, channel_affine_gradient),
        (OWN_DOMAIN, SELECT, select),
        (OWN_DOMAIN, SELECT_GRADIENT, select_gradient),
    ],
    block: 1,
};

pub(super) fn stop_gradient<'b>(call: &Lowered<'_, 'b>) -> Results<'b> {
    Ok(Some(vec![call.value(0)?.clone()]))
}

pub(super) fn fake_quantize<'b>(call: &Lowered<'_, 'b>) -> Results<'b> {
    let quantizer = Quantizer::read(call)?;
    let y = quantizer.clip(call.x(0)? / quantizer.scale).round() * quantizer.scale;
    Ok(Some(vec![y.into()]))
}

/// Straight-through estimator: passes the gradient inside the clipping range, zero outside.
pub(super) fn fake_quantize_gradient<'b>(call: &Lowered<'_, 'b>) -> Results<'b> {
    let quantizer = Quantizer::read(call)?;
    let (x, dy) = (call.x(0)?, call.x(2)?);
    let v = x / quantizer.scale;
    let clipped = quantizer.clip(v);
    let inside = clipped.equal(v);
    let dx = inside.choose(dy, call.builder.scalar(0.0));
    let slope = inside.choose(v.round() - v, clipped);
    let along: Vec<usize> = (0..x.rank()).filter(|&axis| Some(axis) != quantizer.axis).collect();
    let dscale = (dy * slope).sum(&along, false).reshape(&call.x(1)?.shape());
    Ok(Some(vec![dx.into(), dscale.into()]))
}

/// The scales and bounds of a fake quantizer, broadcast to its input.
struct Quantizer<'b> {
    scale: Expr<'b>,
    axis: Option<usize>,
    lo: Expr<'b>,
    hi: Expr<'b>,
    /// Whether all channels share the bounds.
    is_uniform: bool,
}

impl<'b> Quantizer<'b> {
    fn read(call: &Lowered<'_, 'b>) -> Result<Self> {
        let axis = usize::try_from(call.attrs().int("axis", -1)).ok();
        let mut shape = vec![1; axis.map_or(1, |_| call.x(0).map_or(1, Expr::rank))];
        let s = call.x(1)?;
        if let Some(axis) = axis {
            shape[axis] = s.len();
        }
        let listed = |name: &str| call.attrs().floats(name).unwrap_or_default();
        let (lo, hi) = (listed("lo"), listed("hi"));
        let is_uniform = lo.len() == 1 && hi.len() == 1;
        let bound = |values: &[f32]| match is_uniform {
            true => call.builder.scalar(values[0]),
            false => call.builder.constant("levels", Tensor::from_f32(&shape, values)),
        };
        Ok(Self { scale: s.reshape(&shape), axis, lo: bound(lo), hi: bound(hi), is_uniform })
    }

    fn clip(&self, v: Expr<'b>) -> Expr<'b> {
        match self.is_uniform {
            true => v.builder().apply("Clip", &[v, self.lo, self.hi], []),
            false => v.max(self.lo).min(self.hi),
        }
    }
}

/// The weight gradient as a convolution with batch and channels exchanged, and strides and dilations exchanged: the
/// channels of a group become the batch, and the gradient of the output the kernel.
pub(super) fn conv_weight_gradient<'b>(call: &Lowered<'_, 'b>) -> Results<'b> {
    let (x, dy) = (call.x(0)?, call.x(1)?);
    let group = call.attrs().int("group", 1);
    let groups = usize::try_from(group).unwrap_or(1).max(1);
    let shape = x.shape();
    let (batch, channels, sizes) = (shape[0], shape[1], &shape[2..]);
    let apart = [&[batch, groups, channels / groups], sizes].concat();
    let order: Vec<usize> = [2, 1, 0].into_iter().chain(3..3 + sizes.len()).collect();
    let merged = [&[channels / groups, groups * batch], sizes].concat();
    let image = x.reshape(&apart).transpose(&order).reshape(&merged);
    let swapped: Vec<usize> = [1, 0].into_iter().chain(2..2 + sizes.len()).collect();
    let listed = |name: &str| Attr::Ints(call.attrs().ints(name).map_or(vec![1; sizes.len()], <[i64]>::to_vec));
    let exchanged = Attrs::from([
        ("strides", listed("dilations")),
        ("dilations", listed("strides")),
        ("pads", Attr::Ints(call.attrs().ints("pads").map_or(vec![0; 2 * sizes.len()], <[i64]>::to_vec))),
        ("group", Attr::Int(group)),
    ]);
    let found = call.builder.apply("Conv", &[image, dy.transpose(&swapped)], exchanged);
    let dw = within(found, call.attrs().ints("kernel_shape").unwrap_or_default()).transpose(&swapped);
    Ok(Some(vec![dw.into()]))
}

/// Returns the first `sizes` positions along each spatial axis: windows that stop short of the end leave more.
fn within<'b>(found: Expr<'b>, sizes: &[i64]) -> Expr<'b> {
    let sizes = sizes.iter().filter_map(|&size| usize::try_from(size).ok());
    sizes.enumerate().fold(found, |found, (i, size)| match found.shape().get(i + 2) {
        Some(&all) if all > size => found.slice(i + 2, 0..size),
        _ => found,
    })
}

pub(super) fn channel_moments<'b>(call: &Lowered<'_, 'b>) -> Results<'b> {
    let x = call.x(0)?;
    let along = but_channels(x);
    let mean = x.mean(&along, true);
    let variance = (x - mean).square().mean(&along, true);
    let channels = [x.shape()[1]];
    Ok(Some([mean, variance].map(|moment| moment.reshape(&channels).into()).to_vec()))
}

pub(super) fn channel_affine<'b>(call: &Lowered<'_, 'b>) -> Results<'b> {
    let x = call.x(0)?;
    Ok(Some(vec![(x * aligned(call.x(1)?, x) + aligned(call.x(2)?, x)).into()]))
}

pub(super) fn channel_affine_gradient<'b>(call: &Lowered<'_, 'b>) -> Results<'b> {
    let (x, a, dy) = (call.x(0)?, call.x(1)?, call.x(2)?);
    let summed = |e: Expr<'b>| e.sum(&but_channels(x), false);
    Ok(Some(vec![(dy * aligned(a, x)).into(), summed(dy * x).into(), summed(dy).into()]))
}

/// Returns all axes of a tensor but the channel axis.
fn but_channels(x: Expr) -> Vec<usize> {
    (0..x.rank()).filter(|&axis| axis != 1).collect()
}

/// Returns one number per channel in a shape that broadcasts to `x`.
fn aligned<'b>(numbers: Expr<'b>, x: Expr<'b>) -> Expr<'b> {
    let mut shape = vec![1; x.rank()];
    shape[1] = numbers.len();
    numbers.reshape(&shape)
}

pub(super) fn select<'b>(call: &Lowered<'_, 'b>) -> Results<'b> {
    Ok(Some(vec![call.x(0)?.gather(call.x(1)?, 2).gather(call.x(2)?, 3).into()]))
}

/// Multiplies by matrices of zeros and ones, since ScatterElements adds in no fixed order on CUDA.
pub(super) fn select_gradient<'b>(call: &Lowered<'_, 'b>) -> Results<'b> {
    let (dy, rows, columns) = (call.x(0)?, call.x(1)?, call.x(2)?);
    let &[_, _, height, width] = &call.shapes[0][..] else { return Ok(None) };
    let places = |size: usize| call.builder.ints(&(0..index(size)).collect::<Vec<_>>());
    let from_rows = places(height).reshape(&[height, 1]).equal(rows.reshape(&[1, rows.len()]));
    let to_columns = columns.reshape(&[columns.len(), 1]).equal(places(width).reshape(&[1, width]));
    let [from_rows, to_columns] = [from_rows, to_columns].map(|matches| matches.cast(dy.dtype()));
    Ok(Some(vec![from_rows.matmul(dy).matmul(to_columns).into()]))
}
