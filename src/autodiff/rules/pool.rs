//! Pools.

use super::window::Window;
use crate::autodiff::{Gradients, Step};
use crate::expr::index;
use crate::ir::{Attr, Tensor};

/// y = the largest of each window: dy, added where that lies. Windows may overlap.
pub fn max_pool<'b>(s: &Step<'_, 'b>) -> Gradients<'b> {
    let (x, dy) = (s.x(0)?, s.dy()?);
    let places = match s.outputs.get(1).copied().flatten() {
        Some(places) => places,
        None => s.builder().call("MaxPool", &[Some(x)], s.attrs.clone(), 2)[1],
    };
    if s.attrs.int("storage_order", 0) != 0 {
        return Err(s.error("its indices are column by column (storage_order)"));
    }
    let zeros = s.builder().zeros(x.dtype(), &[x.len()]);
    let attrs = [("axis", Attr::Int(0)), ("reduction", "add".into())];
    let flat = [dy.len()];
    let found = s.builder().apply("ScatterElements", &[zeros, places.reshape(&flat), dy.reshape(&flat)], attrs);
    Ok(vec![Some(found.reshape(&x.shape()))])
}

/// y = the mean of each window: dy over the size of its window, to each of its elements.
pub fn average_pool<'b>(s: &Step<'_, 'b>) -> Gradients<'b> {
    let (x, dy) = (s.x(0)?, s.dy()?);
    let kernel = s.attrs.ints("kernel_shape").unwrap_or_default();
    let kernel: Vec<usize> = kernel.iter().filter_map(|&k| usize::try_from(k).ok()).collect();
    let (shape, positions) = (x.shape(), dy.shape());
    let window = Window::read(s, &kernel, &shape[2..], &positions[2..])?;
    let shares = s.builder().constant("shares", shares(s, &window, &shape[2..], &positions[2..]));
    let ones = [&[shape[1], 1], &kernel[..]].concat();
    let ones = s.builder().scalar(1.0).expand(&ones);
    let attrs = window.transposed(index(shape[1]));
    Ok(vec![Some(s.builder().apply("ConvTranspose", &[dy * shares, ones], attrs))])
}

/// Returns one over the number of elements of each window, which padding counts among them where the attribute says so.
#[allow(clippy::cast_precision_loss)]
fn shares(s: &Step, window: &Window, sizes: &[usize], positions: &[usize]) -> Tensor {
    let include = s.attrs.int("count_include_pad", 0) != 0;
    let along = |axis: usize| -> Vec<f32> {
        let size = index(sizes[axis]);
        let padded = s.attrs.ints("pads").map_or(0, |pads| pads[axis + window.rank()]);
        let (from, to) =
            if include { (-window.before[axis], size + padded.max(window.behind[axis].min(0))) } else { (0, size) };
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

/// y = the mean of each channel: dy over the number of its elements, to each of them.
#[allow(clippy::cast_precision_loss)]
pub fn global_average_pool<'b>(s: &Step<'_, 'b>) -> Gradients<'b> {
    let shape = s.x(0)?.shape();
    let elements: usize = shape[2..].iter().product();
    Ok(vec![Some((s.dy()? * (1.0 / elements.max(1) as f32)).expand(&shape))])
}
