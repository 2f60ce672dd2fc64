//! Operators that reshape.

use ndarray::IxDyn;

use crate::error::Result;
use crate::ir::{Dim, Shape};
use crate::shape::dims::{product, shown, times};
use crate::shape::fact::of_rank;
use crate::shape::{Axes, Call, Fact, Item};

/// Reshape: 0 keeps an input size (unless `allowzero`), -1 follows from the element count.
pub fn reshape(call: &Call) -> Result<Vec<Fact>> {
    let target = match call.attrs.ints("shape") {
        Some(shape) if call.opset < 5 => Some(shape.iter().copied().map(Item::Int).collect()),
        _ => call.items(1),
    };
    let Some(target) = target else {
        let rank = match call.shape(1).map(Vec::as_slice) {
            Some([n]) => n.known(),
            _ => None,
        };
        return Ok(vec![call.shaped(rank.and_then(of_rank))]);
    };
    let x = call.shape(0);
    let zero_is_zero = call.attrs.int("allowzero", 0) == 1;
    let mut free = None;
    let mut y = Shape::new();
    for (i, item) in target.iter().enumerate() {
        y.push(match item {
            Item::Int(0) if !zero_is_zero => match x {
                Some(x) => x.get(i).cloned().ok_or_else(|| {
                    call.error(format!("target keeps size {i} of an input of rank {}, {}", x.len(), shown(x)))
                })?,
                None => Dim::Unknown,
            },
            Item::Int(-1) if free.is_none() => {
                free = Some(i);
                Dim::Known(1)
            }
            Item::Int(..0) => return Err(call.error("target has more than one -1, or a size below -1")),
            item => item.dim(),
        });
    }
    if let Some(x) = x {
        let left = quotient(call, x, &y, free.is_some())?;
        if let Some(i) = free {
            y[i] = left;
        }
    } else if let Some(i) = free {
        y[i] = Dim::Unknown;
    }
    Ok(vec![moved(call, Some(y))])
}

/// Returns the elements of `x` over those of `y`, equal symbols cancelled; an error where they cannot fit.
fn quotient(call: &Call, x: &Shape, y: &Shape, free: bool) -> Result<Dim> {
    let mut over: Vec<&Dim> = x.iter().collect();
    let mut under: Vec<&Dim> = Vec::new();
    for dim in y {
        match over.iter().position(|d| *d == dim && *dim != Dim::Unknown) {
            Some(i) => drop(over.swap_remove(i)),
            None => under.push(dim),
        }
    }
    let (over, under) = (product(call, over)?, product(call, under)?);
    let misfit = || {
        let to = if free { format!("{} times a free size", shown(y)) } else { shown(y) };
        call.error(format!("{} cannot be reshaped to {to}: the element counts differ", shown(x)))
    };
    match (over, under) {
        (Dim::Known(a), Dim::Known(b)) if b > 0 && free && a % b == 0 => Ok(Dim::Known(a / b)),
        (Dim::Known(a), Dim::Known(b)) if b > 0 && (free || a != b) => Err(misfit()),
        (over, Dim::Known(1)) => Ok(over),
        _ => Ok(Dim::Unknown),
    }
}

/// Flatten to two dimensions at `axis`.
pub fn flatten(call: &Call) -> Result<Vec<Fact>> {
    let Some(x) = call.shape(0) else { return Ok(vec![call.shaped(Some(vec![Dim::Unknown; 2]))]) };
    let at = match call.attrs.int("axis", 1) {
        axis if usize::try_from(axis) == Ok(x.len()) => x.len(),
        axis => call.axis(axis, x.len())?,
    };
    Ok(vec![moved(call, Some(vec![product(call, &x[..at])?, product(call, &x[at..])?]))])
}

/// Squeeze: axes by attribute, by input from operator set 13 on; every 1 where none are given.
pub fn squeeze(call: &Call) -> Result<Vec<Fact>> {
    let Some(x) = call.shape(0) else { return Ok(vec![call.shaped(None)]) };
    let axes: Vec<usize> = match call.axes("axes", 1, 13) {
        Axes::Unknown => return Ok(vec![call.shaped(None)]),
        Axes::Given(axes) => axes.iter().map(|&a| call.axis(a, x.len())).collect::<Result<_>>()?,
        Axes::Absent if x.iter().any(|d| d.known().is_none()) => return Ok(vec![call.shaped(None)]),
        Axes::Absent => (0..x.len()).filter(|&i| x[i] == Dim::Known(1)).collect(),
    };
    for &axis in &axes {
        call.expect_dim(&format!("size of squeezed axis {axis}"), &Dim::Known(1), &x[axis])?;
    }
    let kept = x.iter().enumerate().filter(|(i, _)| !axes.contains(i)).map(|(_, d)| d.clone());
    Ok(vec![moved(call, Some(kept.collect()))])
}

/// Unsqueeze: axes of the output by attribute, by input from operator set 13 on.
pub fn unsqueeze(call: &Call) -> Result<Vec<Fact>> {
    let (Some(x), Axes::Given(axes)) = (call.shape(0), call.axes("axes", 1, 13)) else {
        return Ok(vec![call.shaped(None)]);
    };
    let rank = x.len() + axes.len();
    let axes = axes.iter().map(|&a| call.axis(a, rank)).collect::<Result<Vec<_>>>()?;
    let mut rest = x.iter();
    let one = |i| if axes.contains(&i) { Some(Dim::Known(1)) } else { rest.next().cloned() };
    let shape: Option<Shape> = (0..rank).map(one).collect();
    let shape = shape.filter(|_| rest.next().is_none());
    Ok(vec![moved(call, Some(shape.ok_or_else(|| call.error(format!("axes {axes:?} repeat")))?))])
}

/// Transpose by `perm`, reversed where none is given.
pub fn transpose(call: &Call) -> Result<Vec<Fact>> {
    let perm = call.attrs.ints("perm");
    let Some(x) = call.shape(0) else {
        return Ok(vec![call.shaped(perm.map(|p| vec![Dim::Unknown; p.len()]))]);
    };
    let perm: Vec<usize> = match perm {
        Some(perm) => perm.iter().map(|&a| call.axis(a, x.len())).collect::<Result<_>>()?,
        None => (0..x.len()).rev().collect(),
    };
    let mut sorted = perm.clone();
    sorted.sort_unstable();
    if !sorted.into_iter().eq(0..x.len()) {
        return Err(call.error(format!("perm {perm:?} does not permute the axes of an input of rank {}", x.len())));
    }
    let contents = call.input(0).and_then(|f| f.contents.clone()).map(|c| c.permuted_axes(IxDyn(&perm)));
    let shape = perm.iter().map(|&p| x[p].clone()).collect();
    Ok(vec![call.shaped(Some(shape)).with_contents(contents)])
}

/// DepthToSpace and SpaceToDepth over `[N, C, H, W]`.
pub fn depth_space(call: &Call) -> Result<Vec<Fact>> {
    let block = usize::try_from(call.attrs.int("blocksize", 0)).unwrap_or(0);
    let Some([n, c, h, w]) = call.shape(0).map(Vec::as_slice) else { return Ok(vec![call.shaped(None)]) };
    if block == 0 {
        return Err(call.error("has no positive blocksize"));
    }
    let square = block.saturating_mul(block);
    let grown = |d: &Dim, by: usize| times(call, d, &Dim::Known(by));
    let shrunk = |d: &Dim, by: usize| match d.known() {
        Some(size) if size % by != 0 => Err(call.error(format!("{by} does not divide size {size}"))),
        Some(size) => Ok(Dim::Known(size / by)),
        None if by == 1 => Ok(d.clone()),
        None => Ok(Dim::Unknown),
    };
    let shape = match call.op_type {
        "DepthToSpace" => vec![n.clone(), shrunk(c, square)?, grown(h, block)?, grown(w, block)?],
        _ => vec![n.clone(), grown(c, square)?, shrunk(h, block)?, shrunk(w, block)?],
    };
    Ok(vec![call.shaped(Some(shape))])
}

/// Returns the fact of input 0 in another shape; its elements keep their order.
fn moved(call: &Call, shape: Option<Shape>) -> Fact {
    let fact = call.shaped(shape);
    let contents = || {
        let shape = fact.static_shape()?;
        let items = call.items(0)?;
        ndarray::ArrayD::from_shape_vec(IxDyn(&shape), items).ok()
    };
    let contents = contents();
    fact.with_contents(contents)
}
