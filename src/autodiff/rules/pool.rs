//! Pools.

use super::resize::summed;
use crate::autodiff::{BackwardCall, Gradients};
use crate::expr::{Expr, index, indices};
use crate::ir::{Attr, Tensor};
use crate::shape::ConvWindow;

/// y = the maximum of each window: dy is added to its first occurrence. In windows side by side all elements equal to
/// the maximum share dy: this needs no indices, which ONNX Runtime's fast pools do not return.
pub fn max_pool<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
    let (x, dy) = (s.x(0)?, s.dy()?);
    let (shape, kernel) = (x.shape(), kernel(s));
    let window = s.window(&kernel, &shape[2..], &dy.shape()[2..])?;
    if window.is_blocks() && s.outputs.get(1).copied().flatten().is_none() {
        return Ok(vec![Some(shared(x, s.y()?, dy, &kernel))]);
    }
    if s.attrs.int("storage_order", 0) != 0 {
        return Err(s.error("its indices are column by column (storage_order)"));
    }
    let places = s.builder().result_beside(s.y()?, 1);
    let zeros = s.builder().zeros(x.dtype(), &[x.len()]);
    let attrs = [("axis", Attr::Int(0)), ("reduction", "add".into())];
    let flat = [dy.len()];
    let found = s.builder().apply("ScatterElements", &[zeros, places.reshape(&flat), dy.reshape(&flat)], attrs);
    Ok(vec![Some(found.reshape(&shape))])
}

/// Returns `dy` shared equally among all elements of each block of x that are equal to y.
fn shared<'b>(x: Expr<'b>, y: Expr<'b>, dy: Expr<'b>, kernel: &[usize]) -> Expr<'b> {
    let sizes = dy.builder().ints(&indices(&x.shape()));
    let attrs = [("coordinate_transformation_mode", "asymmetric".into()), ("nearest_mode", "floor".into())];
    let spread = |e: Expr<'b>| e.builder().call("Resize", &[Some(e), None, None, Some(sizes)], attrs.clone(), 1)[0];
    let wins = x.equal(spread(y)).cast(x.dtype());
    let runs = [&[1, 1], kernel].concat();
    wins * spread(dy / summed(wins, &runs))
}

fn kernel(s: &BackwardCall) -> Vec<usize> {
    let kernel = s.attrs.ints("kernel_shape").unwrap_or_default();
    kernel.iter().filter_map(|&k| usize::try_from(k).ok()).collect()
}

/// y = the mean of each window: dy over the window's size, to each of its elements.
pub fn average_pool<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
    let (x, dy) = (s.x(0)?, s.dy()?);
    let (shape, positions, kernel) = (x.shape(), dy.shape(), kernel(s));
    let window = s.window(&kernel, &shape[2..], &positions[2..])?;
    let shares = s.builder().constant("shares", shares(s, &window, &shape[2..], &positions[2..])).cast(dy.dtype());
    let ones = dy.number(1.0).expand(&[&[shape[1], 1], &kernel[..]].concat());
    let attrs = window.transposed(index(shape[1]));
    Ok(vec![Some(s.builder().apply("ConvTranspose", &[dy * shares, ones], attrs))])
}

/// Returns one over the number of elements of each window, padding included if `count_include_pad` is set.
fn shares(s: &BackwardCall, window: &ConvWindow, sizes: &[usize], positions: &[usize]) -> Tensor {
    let include = s.attrs.int("count_include_pad", 0) != 0;
    let along = |axis: usize| -> Vec<f32> {
        let size = index(sizes[axis]);
        let (from, to) = if include { (-window.before[axis], size + window.after[axis]) } else { (0, size) };
        let count = |position: usize| {
            let start = index(position) * window.strides[axis] - window.before[axis];
            let inside = |k: &i64| (from..to).contains(&(start + k * window.dilations[axis]));
            (0..window.kernel[axis]).filter(inside).count().max(1)
        };
        (0..positions[axis]).map(|p| 1.0 / count(p) as f32).collect()
    };
    let mut values = vec![1.0f32];
    for axis in 0..window.rank() {
        let along = along(axis);
        values = values.iter().flat_map(|v| along.iter().map(move |a| v * a)).collect();
    }
    Tensor::from_f32(positions, &values)
}

/// y = the maximum of each channel: dy shared equally among all elements that are equal to y.
pub fn global_max_pool<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
    let (x, y, dy) = (s.x(0)?, s.y()?, s.dy()?);
    let wins = x.equal(y).cast(x.dtype());
    let axes: Vec<usize> = (2..x.rank()).collect();
    Ok(vec![Some(if axes.is_empty() { dy } else { wins * (dy / wins.sum(&axes, true)) })])
}

/// y = the mean of each channel: dy over the number of its elements, to each element.
pub fn global_average_pool<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
    let shape = s.x(0)?.shape();
    let elements: usize = shape[2..].iter().product();
    Ok(vec![Some((s.dy()? * (1.0 / elements.max(1) as f32)).expand(&shape))])
}
