//! Operators of the ONNX standard alone, for every runtime and device.

use super::{Lowered, Lowering, Results};
use crate::error::Result;
use crate::expr::Expr;
use crate::expr::own::{CONV_WEIGHT_GRADIENT, FAKE_QUANTIZE, FAKE_QUANTIZE_GRADIENT, OWN_DOMAIN, STOP_GRADIENT};
use crate::ir::{Attr, Attrs, Tensor};

/// Standard operators.
pub const STANDARD: Lowering = Lowering {
    rules: &[
        (OWN_DOMAIN, STOP_GRADIENT, stop_gradient),
        (OWN_DOMAIN, FAKE_QUANTIZE, fake_quantize),
        (OWN_DOMAIN, FAKE_QUANTIZE_GRADIENT, fake_quantize_gradient),
        (OWN_DOMAIN, CONV_WEIGHT_GRADIENT, conv_weight_gradient),
    ],
    block: 1,
};

pub(super) fn stop_gradient<'b>(call: &Lowered<'_, 'b>) -> Results<'b> {
    Ok(Some(vec![call.value(0)?.clone()]))
}

pub(super) fn fake_quantize<'b>(call: &Lowered<'_, 'b>) -> Results<'b> {
    let steps = Steps::read(call)?;
    let y = steps.clip(call.x(0)? / steps.s).round() * steps.s;
    Ok(Some(vec![y.into()]))
}

/// Inside of the clip the gradient passes the rounding as if it were not there; outside it stops.
pub(super) fn fake_quantize_gradient<'b>(call: &Lowered<'_, 'b>) -> Results<'b> {
    let steps = Steps::read(call)?;
    let (x, dy) = (call.x(0)?, call.x(2)?);
    let v = x / steps.s;
    let clipped = steps.clip(v);
    let inside = clipped.equal(v);
    let dx = inside.choose(dy, call.builder.scalar(0.0));
    let slope = inside.choose(v.round() - v, clipped);
    let along: Vec<usize> = (0..x.rank()).filter(|&axis| Some(axis) != steps.axis).collect();
    let ds = (dy * slope).sum(&along, false).reshape(&call.x(1)?.shape());
    Ok(Some(vec![dx.into(), ds.into()]))
}

/// The steps and bounds of a fake-quantizer, aligned with what it quantizes.
struct Steps<'b> {
    s: Expr<'b>,
    axis: Option<usize>,
    lo: Expr<'b>,
    hi: Expr<'b>,
    /// Whether one bound serves all.
    is_uniform: bool,
}

impl<'b> Steps<'b> {
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
        Ok(Self { s: s.reshape(&shape), axis, lo: bound(lo), hi: bound(hi), is_uniform })
    }

    fn clip(&self, v: Expr<'b>) -> Expr<'b> {
        match self.is_uniform {
            true => v.builder().apply("Clip", &[v, self.lo, self.hi], []),
            false => v.max(self.lo).min(self.hi),
        }
    }
}

/// A convolution in which batch and channels, and strides and dilations, change places: each group of channels becomes
/// the batch, and the gradient of its results the kernel.
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
