//! Operators that move elements: each gradient moves back.

use crate::autodiff::{BackwardCall, Gradients};
use crate::error::Result;
use crate::expr::{Expr, index};
use crate::ir::Attr;

/// y has the elements of x in another shape (Reshape, Flatten, Squeeze, Unsqueeze): dy in the shape of x.
pub fn reshape<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
    Ok(vec![Some(s.dy()?.reshape(&s.x(0)?.shape())), None])
}

/// y is x broadcast: dy, which the engine sums.
pub fn expand<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
    Ok(vec![Some(s.dy()?), None])
}

/// y is x transposed: dy transposed by the inverse permutation.
pub fn transpose<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
    let rank = s.x(0)?.rank();
    let order: Vec<usize> = match s.attrs.ints("perm") {
        None => (0..rank).rev().collect(),
        Some(perm) => perm.iter().filter_map(|&axis| usize::try_from(axis).ok()).collect(),
    };
    let mut back = vec![0; rank];
    order.iter().enumerate().for_each(|(to, &from)| back[from] = to);
    Ok(vec![Some(s.dy()?.transpose(&back))])
}

/// y is all inputs concatenated: for each input its slice of dy.
pub fn concat<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
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

/// Each output is a slice of x: their gradients concatenated, zeros where one is missing.
pub fn split<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
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

/// y is a strided slice of x: dy with zeros between and around its elements. Ends and steps must be constants.
pub fn slice<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
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
            step if step < 0 => scattered(dy, axis, from.clamp(-1, size - 1), step, size),
            step => scattered(dy, axis, from.clamp(0, size), step, size),
        };
    }
    Ok(vec![Some(dy), None, None, None, None])
}

/// Returns zeros of `size` along `axis` with `part` at `start`.
fn within(part: Expr<'_>, axis: usize, start: i64, size: i64) -> Expr<'_> {
    let shape = part.shape();
    let own = index(shape[axis]);
    let (mut before, mut behind) = (vec![0; shape.len()], vec![0; shape.len()]);
    (before[axis], behind[axis]) = (start, size - start - own);
    part.pad(&before, &behind)
}

/// Returns zeros of `size` along `axis` with the elements of `part` at every `step`-th index from `start`.
fn scattered(part: Expr<'_>, axis: usize, start: i64, step: i64, size: i64) -> Expr<'_> {
    let builder = part.builder();
    let mut shape = part.shape();
    let places: Vec<i64> = (0..index(shape[axis])).map(|i| start + i * step).collect();
    let mut along = vec![1; shape.len()];
    along[axis] = places.len();
    let places = builder.ints(&places).reshape(&along).expand(&shape);
    shape[axis] = usize::try_from(size).unwrap_or(0);
    let zeros = builder.zeros(part.dtype(), &shape);
    let axis = ("axis", Attr::Int(index(axis)));
    builder.apply("ScatterElements", &[zeros, places, part], [axis])
}

/// y is x padded by constants (negative widths crop): dy cropped where x was padded, padded where x was cropped. With
/// reflection or edge padding, the gradient of the padding is added to the elements that it copies, axis by axis.
pub fn pad<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
    let mode = s.attrs.string("mode").unwrap_or("constant");
    let fold = match mode {
        "constant" => None,
        "reflect" => Some(reflected as Fold),
        "edge" => Some(repeated as Fold),
        _ => return Err(s.error(format!("its mode is {mode}"))),
    };
    let (shape, dy) = (s.x(0)?.shape(), s.dy()?);
    let [before, behind] = widths(s)?;
    let Some(fold) = fold else {
        let cut = |widths: &[i64]| widths.iter().map(|width| -width).collect::<Vec<_>>();
        return Ok(vec![Some(dy.pad(&cut(&before), &cut(&behind))), None, None, None]);
    };
    let mut dx = dy;
    for (axis, &size) in shape.iter().enumerate() {
        let ends = [before[axis], behind[axis]];
        let reach = if mode == "reflect" { index(size) - 1 } else { i64::MAX };
        if ends.iter().any(|&width| width < 0 || width > reach) {
            return Err(s.error(format!("its mode is {mode} with the widths {ends:?} on an axis of {size}")));
        }
        if ends != [0, 0] {
            let middle = dx.slice(axis, places(ends[0])..places(ends[0]) + size);
            dx = middle + fold(dx, axis, ends, index(size));
        }
    }
    Ok(vec![Some(dx), None, None, None])
}

/// Folds the gradient of a padded axis back onto the axis of x.
type Fold = for<'b> fn(Expr<'b>, usize, [i64; 2], i64) -> Expr<'b>;

/// Returns the widths of a Pad before and after every axis of x.
fn widths(s: &BackwardCall) -> Result<[Vec<i64>; 2]> {
    let rank = s.x(0)?.rank();
    let pads = s.x(1)?.constant_ints().ok_or_else(|| s.error("its widths are computed at run time"))?;
    let axes: Vec<usize> = match s.inputs.get(3).copied().flatten() {
        None => (0..rank).collect(),
        Some(axes) => {
            let axes = axes.constant_ints().ok_or_else(|| s.error("its axes are computed at run time"))?;
            axes.into_iter().map(|axis| s.front(axis)).collect::<Result<_>>()?
        }
    };
    let mut widths = [vec![0; rank], vec![0; rank]];
    for (i, &axis) in axes.iter().enumerate() {
        (widths[0][axis], widths[1][axis]) = (pads[i], pads[i + axes.len()]);
    }
    Ok(widths)
}

/// y begins with the elements before..1 of x and ends with its last but one and those before that.
fn reflected<'b>(dy: Expr<'b>, axis: usize, [before, behind]: [i64; 2], size: i64) -> Expr<'b> {
    let back = |from: i64, width: i64, start: i64| {
        let places: Vec<i64> = (from..from + width).rev().collect();
        within(dy.gather(dy.builder().ints(&places), axis), axis, start, size)
    };
    both(before, behind, || back(0, before, 1), || back(before + size, behind, size - 1 - behind))
}

/// y repeats the first element of x at its start, and the last element at its end.
fn repeated<'b>(dy: Expr<'b>, axis: usize, [before, behind]: [i64; 2], size: i64) -> Expr<'b> {
    let back = |from: i64, width: i64, start: i64| {
        let part = dy.slice(axis, places(from)..places(from + width));
        within(part.sum(&[axis], true), axis, start, size)
    };
    both(before, behind, || back(0, before, 0), || back(before + size, behind, size - 1))
}

/// Returns the sum of the gradients of both ends, of which one may be empty.
fn both<'b>(before: i64, behind: i64, front: impl Fn() -> Expr<'b>, end: impl Fn() -> Expr<'b>) -> Expr<'b> {
    match (before, behind) {
        (_, 0) => front(),
        (0, _) => end(),
        _ => front() + end(),
    }
}

/// Returns a width that is not negative.
fn places(width: i64) -> usize {
    usize::try_from(width).unwrap_or(0)
}

/// y gathers slices of x along an axis: each slice of dy is added to its slice of x.
pub fn gather<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
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

/// SpaceToDepth: the inverse, DepthToSpace.
pub fn space_to_depth<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
    let block = Attr::Int(s.attrs.int("blocksize", 1));
    Ok(vec![Some(s.builder().apply("DepthToSpace", &[s.dy()?], [("blocksize", block)]))])
}

/// DepthToSpace: the inverse, SpaceToDepth, with the channels in the order of the mode.
pub fn depth_to_space<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
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
