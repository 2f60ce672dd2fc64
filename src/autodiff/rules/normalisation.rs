//! Normalisations.

use crate::autodiff::{BackwardCall, Gradients};
use crate::error::Result;
use crate::expr::Expr;

/// y = (x - mean)·scale/√(var + ε) + bias with given mean and variance of each channel.
pub fn batch_normalization<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
    if s.attrs.int("training_mode", 0) != 0 {
        return Err(s.error("it is in training mode; compose it of means instead"));
    }
    let (x, dy) = (s.x(0)?, s.dy()?);
    let mut aligned = vec![1; x.rank()];
    aligned[1] = x.shape()[1];
    let column = |i: usize| -> Result<Expr<'b>> { Ok(s.x(i)?.reshape(&aligned)) };
    let (scale, mean, var) = (column(1)?, column(3)?, column(4)?);
    let inverse = (var + s.attrs.float("epsilon", 1e-5)).sqrt().reciprocal();
    let axes: Vec<usize> = (0..x.rank()).filter(|&axis| axis != 1).collect();
    let per_channel = |e: Expr<'b>| e.sum(&axes, false);
    let normal = || (x - mean) * inverse;
    let channels = [x.shape()[1]];
    Ok(vec![
        s.wants(0).then(|| dy * (scale * inverse)),
        s.wants(1).then(|| per_channel(dy * normal())),
        s.wants(2).then(|| per_channel(dy)),
        s.wants(3).then(|| -(per_channel(dy) * (scale * inverse).reshape(&channels))),
        s.wants(4).then(|| per_channel(dy * normal()) * (scale * inverse.square() * -0.5).reshape(&channels)),
    ])
}

/// y = n·scale + bias with n = (x - mean)/√(var + ε) over all axes from `axis` on.
pub fn layer_normalization<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
    let (x, scale, dy) = (s.x(0)?, s.x(1)?, s.dy()?);
    let normal = Normal::of(s, x, (s.axis(-1)?..x.rank()).collect());
    Ok(vec![s.wants(0).then(|| normal.back(dy * scale)), s.wants(1).then(|| dy * normal.n), s.wants(2).then_some(dy)])
}

/// The same over the pixels of each channel, with scale and bias of each channel.
pub fn instance_normalization<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
    let channels = s.x(0)?.shape().get(1).copied().unwrap_or(1);
    in_groups(s, channels)
}

/// The same over the pixels and channels of each group, with scale and bias of each channel.
pub fn group_normalization<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
    let groups = s.attrs.int("num_groups", 0);
    in_groups(s, usize::try_from(groups).map_err(|_| s.error(format!("num_groups is {groups}")))?)
}

fn in_groups<'b>(s: &BackwardCall<'_, 'b>, groups: usize) -> Gradients<'b> {
    let (x, scale, dy) = (s.x(0)?, s.x(1)?, s.dy()?);
    let shape = x.shape();
    let (batch, channels, pixels) = (shape[0], shape[1], shape[2..].iter().product::<usize>());
    if groups == 0 || channels % groups != 0 {
        return Err(s.error(format!("{channels} channels do not make {groups} groups")));
    }
    let apart = [batch, groups, channels / groups, pixels];
    let per_channel = |e: Expr<'b>| e.sum(&[0, 3], false).reshape(&[channels]);
    let normal = Normal::of(s, x.reshape(&apart), vec![2, 3]);
    let dy = dy.reshape(&apart);
    let g = || dy * scale.reshape(&[groups, channels / groups, 1]);
    Ok(vec![
        s.wants(0).then(|| normal.back(g()).reshape(&shape)),
        s.wants(1).then(|| per_channel(dy * normal.n)),
        s.wants(2).then(|| per_channel(dy)),
    ])
}

/// A tensor normalized over some axes.
struct Normal<'b> {
    /// (x - mean)·inverse.
    n: Expr<'b>,
    /// 1/√(var + ε).
    inverse: Expr<'b>,
    axes: Vec<usize>,
}

impl<'b> Normal<'b> {
    fn of(s: &BackwardCall<'_, 'b>, x: Expr<'b>, axes: Vec<usize>) -> Self {
        let centred = x - x.mean(&axes, true);
        let inverse = (centred.square().mean(&axes, true) + s.attrs.float("epsilon", 1e-5)).sqrt().reciprocal();
        Self { n: centred * inverse, inverse, axes }
    }

    /// Returns the gradient of x for that of n, g: (g - mean(g) - n·mean(g·n))/√(var + ε).
    fn back(&self, g: Expr<'b>) -> Expr<'b> {
        (g - g.mean(&self.axes, true) - self.n * (g * self.n).mean(&self.axes, true)) * self.inverse
    }
}
