//! Activation functions.

use std::f32::consts::{FRAC_1_SQRT_2, PI};

use crate::autodiff::{BackwardCall, Gradients};

/// y = max(x, 0): dy where y > 0.
pub fn relu<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
    let (y, dy) = (s.y()?, s.dy()?);
    let zero = dy.number(0.0);
    Ok(vec![Some(y.greater(zero).choose(dy, zero))])
}

/// y = x where x ≥ 0, else αx: dy·(1 or α).
pub fn leaky_relu<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
    let (x, dy) = (s.x(0)?, s.dy()?);
    let alpha = s.attrs.float("alpha", 0.01);
    Ok(vec![Some(x.less(dy.number(0.0)).choose(dy * alpha, dy))])
}

/// y = x where x ≥ 0, else slope·x: dy·(1 or slope), dy·x where x < 0.
pub fn prelu<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
    let (x, slope, dy) = (s.x(0)?, s.x(1)?, s.dy()?);
    let zero = dy.number(0.0);
    let negative = x.less(zero);
    Ok(vec![Some(negative.choose(dy * slope, dy)), s.wants(1).then(|| negative.choose(dy * x, zero))])
}

/// y = x where x ≥ 0, else α·(e^x - 1): dy·(1 or y + α).
pub fn elu<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
    let (x, y, dy) = (s.x(0)?, s.y()?, s.dy()?);
    let below = dy * (y + s.attrs.float("alpha", 1.0));
    Ok(vec![Some(x.less(dy.number(0.0)).choose(below, dy))])
}

/// y = x·t with t = tanh(ln(1 + e^x)): dy·(t + x·(1 - t²)·σ(x)).
pub fn mish<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
    let (x, dy) = (s.x(0)?, s.dy()?);
    let t = x.unary("Softplus").tanh();
    Ok(vec![Some(dy * (t + x * (1.0 - t.square()) * x.sigmoid()))])
}

/// y = x clipped to [lo, hi]: dy where lo ≤ x ≤ hi; the bounds must be constants.
pub fn clip<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
    let (x, y, dy) = (s.x(0)?, s.y()?, s.dy()?);
    if s.wants(1) || s.wants(2) {
        return Err(s.error("its bounds are trained; write it as Min and Max"));
    }
    Ok(vec![Some(x.equal(y).choose(dy, dy.number(0.0)))])
}

/// y = σ(x): dy·y·(1 - y).
pub fn sigmoid<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
    let y = s.y()?;
    Ok(vec![Some(s.dy()? * y * (1.0 - y))])
}

/// y = αx + β clipped to [0, 1]: α·dy where 0 < y < 1.
pub fn hard_sigmoid<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
    let (y, dy) = (s.y()?, s.dy()?);
    let alpha = s.attrs.float("alpha", 0.2);
    let inside = (y * (1.0 - y)).greater(dy.number(0.0));
    Ok(vec![Some(inside.choose(dy * alpha, dy.number(0.0)))])
}

/// y = x·h, h = x/6 + 1/2 clipped to [0, 1]: dy·(h + x/6 where 0 < h < 1).
pub fn hard_swish<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
    let (x, dy) = (s.x(0)?, s.dy()?);
    let sixth = x * (1.0 / 6.0);
    let h = (sixth + 0.5).clip(0.0, 1.0);
    let zero = dy.number(0.0);
    let inside = (h * (1.0 - h)).greater(zero);
    Ok(vec![Some(dy * (h + inside.choose(sixth, zero)))])
}

/// y = tanh(x): dy·(1 - y²).
pub fn tanh<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
    Ok(vec![Some(s.dy()? * (1.0 - s.y()?.square()))])
}

/// y = erf(x): dy·2/√π·e^(-x²).
pub fn erf<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
    Ok(vec![Some(s.dy()? * (2.0 / PI.sqrt()) * (-s.x(0)?.square()).exp())])
}

/// y = x·Φ(x): dy·(Φ(x) + x·φ(x)). Its approximation x·(1 + tanh u)/2 with u = √(2/π)·(x + 0.044715·x³) is x·σ(2u):
/// dy·(σ + x·σ·(1 - σ)·2u').
pub fn gelu<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
    let (x, dy) = (s.x(0)?, s.dy()?);
    let slope = match s.attrs.string("approximate") {
        Some("tanh") => {
            let twice = 2.0 * (2.0 / PI).sqrt();
            let square = x.square();
            // Not by Sigmoid or Tanh: those of tract 0.23 are good to five digits here.
            let s = ((x * (square * 0.044_715 + 1.0) * -twice).exp() + 1.0).reciprocal();
            s + x * s * (1.0 - s) * (square * (3.0 * 0.044_715) + 1.0) * twice
        }
        _ => {
            let cumulative = ((x * FRAC_1_SQRT_2).unary("Erf") + 1.0) * 0.5;
            let density = (x.square() * -0.5).exp() * (1.0 / (2.0 * PI).sqrt());
            cumulative + x * density
        }
    };
    Ok(vec![Some(dy * slope)])
}

/// y = ln(1 + e^x): dy·σ(x).
pub fn softplus<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
    Ok(vec![Some(s.dy()? * s.x(0)?.sigmoid())])
}
