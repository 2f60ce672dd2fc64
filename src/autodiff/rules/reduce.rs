//! Reductions and softmax.

use crate::autodiff::{BackwardCall, Gradients};
use crate::error::Result;
use crate::expr::{Expr, index};

/// y = Σ x: dy everywhere.
pub fn sum<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
    let kept = Kept::of(s)?;
    Ok(vec![Some(kept.dy.expand(&s.x(0)?.shape())), None])
}

/// y = Σ x / n: dy/n everywhere.
pub fn mean<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
    let kept = Kept::of(s)?;
    let n = s.x(0)?.len() / kept.dy.len().max(1);
    Ok(vec![Some((kept.dy * (1.0 / n.max(1) as f32)).expand(&s.x(0)?.shape())), None])
}

/// y = max x, or min x: dy shared equally among all elements that are equal to y.
pub fn extreme<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
    let kept = Kept::of(s)?;
    let x = s.x(0)?;
    let wins = x.equal(kept.y).cast(x.dtype());
    let winners = match kept.axes.as_slice() {
        [] => wins,
        axes => wins.sum(axes, true),
    };
    Ok(vec![Some(wins * (kept.dy / winners)), None])
}

/// y = softmax(x): y·(dy - Σ y·dy).
pub fn softmax<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
    let (y, dy) = (s.y()?, s.dy()?);
    let axis = s.axis(-1)?;
    Ok(vec![Some(y * (dy - (y * dy).sum(&[axis], true)))])
}

/// y = ln softmax(x): dy - e^y·Σ dy.
pub fn log_softmax<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
    let (y, dy) = (s.y()?, s.dy()?);
    let axis = s.axis(-1)?;
    Ok(vec![Some(dy - y.exp() * dy.sum(&[axis], true))])
}

/// Result and gradient of a reduction, with the reduced axes kept as 1.
struct Kept<'b> {
    y: Expr<'b>,
    dy: Expr<'b>,
    axes: Vec<usize>,
}

impl<'b> Kept<'b> {
    fn of(s: &BackwardCall<'_, 'b>) -> Result<Self> {
        let x = s.x(0)?;
        let listed = match s.inputs.get(1).copied().flatten() {
            None => Vec::new(),
            Some(axes) => axes.constant_ints().ok_or_else(|| s.error("its axes are computed at run time"))?,
        };
        let all = listed.is_empty() && s.attrs.int("noop_with_empty_axes", 0) == 0;
        let axes = if all { (0..index(x.rank())).collect() } else { listed };
        let axes = axes.into_iter().map(|axis| s.front(axis)).collect::<Result<Vec<_>>>()?;
        let mut shape = x.shape();
        axes.iter().for_each(|&axis| shape[axis] = 1);
        Ok(Self { y: s.y()?.reshape(&shape), dy: s.dy()?.reshape(&shape), axes })
    }
}
