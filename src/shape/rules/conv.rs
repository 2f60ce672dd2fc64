//! Convolutions.

use super::window::{SlidingWindow, sizes};
use crate::error::Result;
use crate::ir::{Dim, Shape};
use crate::shape::dims::times;
use crate::shape::{Call, Fact};

/// `x: [N, C, …]`, `w: [M, C / group, k…]` to `[N, M, …]`.
pub fn conv(call: &Call) -> Result<Vec<Fact>> {
    let (Some(x), Some(w)) = (call.shape(0), call.shape(1)) else { return Ok(vec![call.shaped(None)]) };
    let kernel = check(call, x, w)?;
    let group = group(call)?;
    call.expect_dim("channels of input 0 (weight channels times group)", &times(call, &w[1], &group)?, &x[1])?;
    if let (Some(m), Some(g)) = (w[0].known(), group.known())
        && m % g != 0
    {
        return Err(call.error(format!("group {g} does not divide {m} output channels")));
    }
    bias(call, &w[0])?;
    let mut y = vec![x[0].clone(), w[0].clone()];
    y.extend(SlidingWindow::read(call, &kernel)?.slide(&x[2..])?);
    Ok(vec![call.shaped(Some(y))])
}

/// `x: [N, C, …]`, `w: [C, M / group, k…]` to `[N, M, …]`.
pub fn conv_transpose(call: &Call) -> Result<Vec<Fact>> {
    let (Some(x), Some(w)) = (call.shape(0), call.shape(1)) else { return Ok(vec![call.shaped(None)]) };
    let kernel = check(call, x, w)?;
    call.expect_dim("channels of input 0 (those of the weight)", &w[0], &x[1])?;
    let group = group(call)?;
    let channels = times(call, &w[1], &group)?;
    bias(call, &channels)?;
    let window = SlidingWindow::read(call, &kernel)?;
    let mut y = vec![x[0].clone(), channels];
    match call.attrs.ints("output_shape") {
        Some(shape) => {
            let spatial = &shape[shape.len().saturating_sub(kernel.len())..];
            y.extend(sizes(call, "output_shape", spatial)?.into_iter().map(Dim::Known));
        }
        None => y.extend(window.unslide(&x[2..])?),
    }
    Ok(vec![call.shaped(Some(y))])
}

/// Returns the elements of buffers that kernels of a Conv or ConvTranspose may unpack: the padded input, or the result
/// before padding is cropped.
pub fn unpacked(call: &Call) -> Option<usize> {
    let (x, w) = (call.shape(0)?, call.shape(1)?);
    let kernel = check(call, x, w).ok()?;
    let window = SlidingWindow::read(call, &kernel).ok()?;
    let (channels, spatial) = match call.op_type {
        "ConvTranspose" => (times(call, &w[1], &group(call).ok()?).ok()?, window.uncut_sizes(&x[2..])),
        _ => (x[1].clone(), window.padded(&x[2..])),
    };
    let first = [x[0].known().unwrap_or(1), channels.known().unwrap_or(1)];
    Some(first.into_iter().chain(spatial).fold(1, usize::saturating_mul))
}

fn group(call: &Call) -> Result<Dim> {
    let group = call.attrs.int("group", 1);
    let positive = usize::try_from(group).ok().filter(|&g| g > 0);
    positive.map(Dim::Known).ok_or_else(|| call.error(format!("group is {group}, expected a positive number")))
}

fn bias(call: &Call, channels: &Dim) -> Result<()> {
    match call.shape(2).map(Vec::as_slice) {
        Some([b]) => call.expect_dim("size of the bias", channels, b),
        _ => Ok(()),
    }
}

fn check(call: &Call, x: &Shape, w: &Shape) -> Result<Shape> {
    if x.len() < 3 || x.len() != w.len() {
        return Err(call.error(format!(
            "input of rank {} and weight of rank {}, expected equal ranks of at least 3",
            x.len(),
            w.len()
        )));
    }
    let Some(kernel) = call.attrs.ints("kernel_shape") else { return Ok(w[2..].to_vec()) };
    let kernel: Shape = sizes(call, "kernel_shape", kernel)?.into_iter().map(Dim::Known).collect();
    if kernel.len() != w.len() - 2 {
        return Err(call.error(format!("kernel_shape of {} sizes for a weight of rank {}", kernel.len(), w.len())));
    }
    for (k, w) in kernel.iter().zip(&w[2..]) {
        call.expect_dim("kernel_shape against the weight", w, k)?;
    }
    Ok(kernel)
}
