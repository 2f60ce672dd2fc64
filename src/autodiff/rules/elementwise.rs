//! Arithmetic, Where, and elementwise functions.

use crate::autodiff::{BackwardCall, Gradients};

/// y = a + b: dy, dy.
pub fn add<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
    Ok(vec![Some(s.dy()?), Some(s.dy()?)])
}

/// y = a - b: dy, -dy.
pub fn sub<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
    Ok(vec![Some(s.dy()?), if s.wants(1) { Some(-s.dy()?) } else { None }])
}

/// y = a·b: dy·b, dy·a.
pub fn mul<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
    let (a, b, dy) = (s.x(0)?, s.x(1)?, s.dy()?);
    Ok(vec![s.wants(0).then(|| dy * b), s.wants(1).then(|| dy * a)])
}

/// y = a/b: dy/b, -dy·y/b.
pub fn div<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
    let (b, y, dy) = (s.x(1)?, s.y()?, s.dy()?);
    let da = dy / b;
    Ok(vec![Some(da), s.wants(1).then(|| -(da * y))])
}

/// y = a^b: dy·b·a^(b-1), and 0 where b = 0; dy·y·ln(a), and 0 where y = 0. An exponent of another type is cast first.
pub fn pow<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
    let (a, b, y, dy) = (s.x(0)?, s.x(1)?, s.y()?, s.dy()?);
    let known = b.constant_floats();
    let all = |holds: fn(&f32) -> bool| known.as_ref().is_some_and(|b| b.iter().all(holds));
    let b = b.cast(a.dtype());
    let zero = dy.number(0.0);
    let power = || s.builder().apply("Pow", &[a, b - 1.0], []);
    let da = || match () {
        () if all(|&b| b == 2.0) => dy * a * 2.0,
        () if all(|&b| b != 0.0) => dy * b * power(),
        () => b.equal(zero).choose(zero, dy * b * power()),
    };
    let db = || y.equal(zero).choose(zero, dy * y * a.log());
    Ok(vec![s.wants(0).then(da), s.wants(1).then(db)])
}

/// y = a + b + …: dy each.
pub fn sum<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
    let dy = s.dy()?;
    Ok(vec![Some(dy); s.inputs.len()])
}

/// y = min or max of all inputs: dy to the first input that is equal to y.
pub fn extreme<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
    let (y, dy) = (s.y()?, s.dy()?);
    let zero = dy.number(0.0);
    let mut left = dy;
    let mut gradients = Vec::with_capacity(s.inputs.len());
    for i in 0..s.inputs.len() {
        let wins = s.x(i)?.equal(y);
        gradients.push(Some(wins.choose(left, zero)));
        left = wins.choose(zero, left);
    }
    Ok(gradients)
}

/// y = a where c, else b: none, dy where c, dy where not c.
pub fn choose<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
    let (condition, dy) = (s.x(0)?, s.dy()?);
    let zero = dy.number(0.0);
    Ok(vec![None, Some(condition.choose(dy, zero)), Some(condition.choose(zero, dy))])
}

/// y = -x: -dy.
pub fn neg<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
    Ok(vec![Some(-s.dy()?)])
}

/// y = |x|: dy·sign(x).
pub fn abs<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
    Ok(vec![Some(s.dy()? * s.x(0)?.sign())])
}

/// y = e^x: dy·y.
pub fn exp<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
    Ok(vec![Some(s.dy()? * s.y()?)])
}

/// y = ln(x): dy/x.
pub fn log<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
    Ok(vec![Some(s.dy()? / s.x(0)?)])
}

/// y = √x: dy/(2y).
pub fn sqrt<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
    Ok(vec![Some(s.dy()? * 0.5 / s.y()?)])
}

/// y = 1/x: -dy·y².
pub fn reciprocal<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
    Ok(vec![Some(-(s.dy()? * s.y()?.square()))])
}

/// y = x: dy.
pub fn identity<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
    Ok(vec![Some(s.dy()?)])
}

/// y = x in another floating-point type: dy in the type of x.
pub fn cast<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
    let x = s.x(0)?;
    Ok(vec![if x.dtype().is_float() { Some(s.dy()?.cast(x.dtype())) } else { None }])
}
