//! Operators that move elements: each gradient moves back.

use crate::autodiff::{Gradients, Step};
use crate::error::Result;
use crate::expr::{Expr, index};
use crate::ir::Attr;

/// y has the elements of x in another shape (Reshape, Flatten, Squeeze, Unsqueeze): dy in the shape of x.
pub fn reshape<'b>(s: &Step<'_, 'b>) -> Gradients<'b> {
    Ok(vec![Some(s.dy()?.reshape(&s.x(0)?.shape())), None])
}

/// y is x broadcast: dy, which the engine sums.
pub fn expand<'b>(s: &Step<'_, 'b>) -> Gradients<'b> {
    Ok(vec![Some(s.dy()?), None])
}

/// y has the axes of x in another order: dy in the order that undoes it.
pub fn transpose<'b>(s: &Step<'_, 'b>) -> Gradients<'b> {
    let rank = s.x(0)?.rank();
    let order: Vec<usize> = match s.attrs.ints("perm") {
        None => (0..rank).rev().collect(),
        Some(perm) => perm.iter().filter_map(|&axis| usize::try_from(axis).ok()).collect(),
    };
    let mut back = vec![0; rank];
    order.iter().enumerate().for_each(|(to, &from)| back[from] = to);
    Ok(vec![Some(s.dy()?.transpose(&back))])
}

/// y is all inputs along one axis: each its slice of dy.
pub fn concat<'b>(s: &Step<'_, 'b>) -> Gradients<'b> {
    let axis = s.axis(0)?;
    let dy = s.dy()?;
    let (mut start, mut gradients) = (0, Vec::with_capacity(s.inputs.len()));
    for i in 0..s.inputs.len() {
        let end = start + s.x(i)?.shape()[axis];
        gradients.push(s.wants(i).then(|| dy.slice(axis, start..end)));
        start = end;
    }
    Ok(gradients)
}

/// Each output is a slice of x: all their gradients along the axis, zeros where there is none.
pub fn split<'b>(s: &Step<'_, 'b>) -> Gradients<'b> {
    let axis = s.axis(0)?;
    let part = |i: usize| {
        let output = s.outputs[i]?;
        Some(s.grads[i].unwrap_or_else(|| s.builder().zeros(output.dtype(), &output.shape())))
    };
    let parts: Option<Vec<Expr<'b>>> = (0..s.outputs.len()).map(part).collect();
    let parts = parts.ok_or_else(|| s.error("an output of it is left out"))?;
    let (first, others) = parts.split_first().ok_or_else(|| s.error("it has no output"))?;
    Ok(vec![Some(if others.is_empty() { *first } else { first.concat(others, axis) }), None])
}

/// y is a part of x, with steps: dy with zeros in between and around. Ends and steps are constants.
pub fn slice<'b>(s: &Step<'_, 'b>) -> Gradients<'b> {
    let shape = s.x(0)?.shape();
    let mut dy = s.dy()?;
    let ints = |i: usize| match s.inputs.get(i).copied().flatten() {
        None => Ok(None),
        Some(e) => e.constant_ints().map(Some).ok_or_else(|| s.error("its range is computed at run time")),
    };
    let starts = ints(1)?.unwrap_or_default();
    let axes = ints(3)?.unwrap_or_else(|| (0..index(starts.len())).collect());
    let steps = ints(4)?.unwrap_or_else(|| vec![1; starts.len()]);
    for ((&start, &axis), &step) in starts.iter().zip(&axes).zip(&steps) {
        let axis = s.front(axis)?;
        let size = index(shape[axis]);
        let from = if start < 0 { start + size } else { start };
        dy = match step {
            1 => within(dy, axis, from.clamp(0, size), size),
            step => scattered(
                s,
                dy,
                axis,
                (from.clamp(if step < 0 { -1 } else { 0 }, if step < 0 { size - 1 } else { size }), step),
                size,
            ),
        };
    }
    Ok(vec![Some(dy), None, None, None, None])
}

/// Returns `part` from `start` on in zeros of `size` along `axis`.
fn within(part: Expr<'_>, axis: usize, start: i64, size: i64) -> Expr<'_> {
    let shape = part.shape();
    let own = index(shape[axis]);
    let (mut before, mut behind) = (vec![0; shape.len()], vec![0; shape.len()]);
    (before[axis], behind[axis]) = (start, size - start - own);
    part.pad(&before, &behind)
}

/// Returns the elements of `part` at every `step`-th place from `start` on, in zeros of `size` along `axis`.
fn scattered<'b>(s: &Step<'_, 'b>, part: Expr<'b>, axis: usize, (start, step): (i64, i64), size: i64) -> Expr<'b> {
    let mut shape = part.shape();
    let places: Vec<i64> = (0..index(shape[axis])).map(|i| start + i * step).collect();
    let mut along = vec![1; shape.len()];
    along[axis] = places.len();
    let places = s.builder().ints(&places).reshape(&along).expand(&shape);
    shape[axis] = usize::try_from(size).unwrap_or(0);
    let zeros = s.builder().zeros(part.dtype(), &shape);
    let axis = ("axis", Attr::Int(index(axis)));
    s.builder().apply("ScatterElements", &[zeros, places, part], [axis])
}

/// y is x between constants (negative widths cut): dy cut where x was padded, padded where x was cut.
pub fn pad<'b>(s: &Step<'_, 'b>) -> Gradients<'b> {
    let x = s.x(0)?;
    if s.attrs.string("mode").is_some_and(|mode| mode != "constant") {
        return Err(s.error("its mode is not constant"));
    }
    let pads = s.x(1)?.constant_ints().ok_or_else(|| s.error("its widths are computed at run time"))?;
    let axes: Vec<usize> = match s.inputs.get(3).copied().flatten() {
        None => (0..x.rank()).collect(),
        Some(axes) => {
            let axes = axes.constant_ints().ok_or_else(|| s.error("its axes are computed at run time"))?;
            axes.into_iter().map(|axis| s.front(axis)).collect::<Result<_>>()?
        }
    };
    let (mut before, mut behind) = (vec![0; x.rank()], vec![0; x.rank()]);
    for (i, &axis) in axes.iter().enumerate() {
        (before[axis], behind[axis]) = (-pads[i], -pads[i + axes.len()]);
    }
    Ok(vec![Some(s.dy()?.pad(&before, &behind)), None, None, None])
}

/// y picks slices of x along an axis: each slice of dy added where it came from.
pub fn gather<'b>(s: &Step<'_, 'b>) -> Gradients<'b> {
    let (x, indices, dy) = (s.x(0)?, s.x(1)?, s.dy()?);
    let axis = s.axis(0)?;
    let (shape, picked) = (x.shape(), indices.len());
    // One axis for what was picked, and an index of its own for every element.
    let mut flat: Vec<usize> = shape.clone();
    flat[axis] = picked;
    let mut along = vec![1; shape.len()];
    along[axis] = picked;
    let places = indices.reshape(&along).expand(&flat);
    let zeros = s.builder().zeros(x.dtype(), &shape);
    let attrs = [("axis", Attr::Int(index(axis))), ("reduction", "add".into())];
    Ok(vec![Some(s.builder().apply("ScatterElements", &[zeros, places, dy.reshape(&flat)], attrs)), None])
}

/// y has blocks of pixels as channels: the inverse, DepthToSpace.
pub fn space_to_depth<'b>(s: &Step<'_, 'b>) -> Gradients<'b> {
    let block = Attr::Int(s.attrs.int("blocksize", 1));
    Ok(vec![Some(s.builder().apply("DepthToSpace", &[s.dy()?], [("blocksize", block)]))])
}

/// y has blocks of channels as pixels: the inverse, SpaceToDepth, with the channels in the order of the mode.
pub fn depth_to_space<'b>(s: &Step<'_, 'b>) -> Gradients<'b> {
    let x = s.x(0)?;
    let block = usize::try_from(s.attrs.int("blocksize", 1)).map_err(|_| s.error("its block size is negative"))?;
    let [n, c, h, w] = x.dims();
    let inner = c / (block * block).max(1);
    let blocks = s.dy()?.reshape(&[n, inner, h, block, w, block]);
    let order = match s.attrs.string("mode") {
        Some("CRD") => [0, 1, 3, 5, 2, 4],
        _ => [0, 3, 5, 1, 2, 4],
    };
    Ok(vec![Some(blocks.transpose(&order).reshape(&[n, c, h, w]))])
}
