//! Arithmetic on dimensions that may be symbols.

use super::Call;
use crate::error::Result;
use crate::ir::{Dim, Shape};

/// Returns the shape that `a` and `b` broadcast to.
///
/// # Errors
/// When two numbers differ and neither is 1.
pub fn broadcast(call: &Call, a: &[Dim], b: &[Dim]) -> Result<Shape> {
    let rank = a.len().max(b.len());
    let at = |shape: &[Dim], i: usize| match (i + shape.len()).checked_sub(rank) {
        Some(j) => shape[j].clone(),
        None => Dim::Known(1),
    };
    let one = |i| match (at(a, i), at(b, i)) {
        (Dim::Known(x), Dim::Known(y)) if x == y => Ok(Dim::Known(x)),
        (Dim::Known(1), other) | (other, Dim::Known(1)) => Ok(other),
        (Dim::Known(x), Dim::Known(y)) => {
            Err(call.error(format!("shapes {} and {} do not broadcast: {x} against {y}", shown(a), shown(b))))
        }
        // A size that meets a number other than 1 is that number or 1.
        (Dim::Known(n), _) | (_, Dim::Known(n)) => Ok(Dim::Known(n)),
        (Dim::Symbol(x), Dim::Symbol(y)) if x == y => Ok(Dim::Symbol(x)),
        _ => Ok(Dim::Unknown),
    };
    (0..rank).map(one).collect()
}

/// Returns the more specific of two dimensions that must be equal.
///
/// # Errors
/// When both are numbers that differ; `what` names them.
pub fn unify(call: &Call, what: &str, a: &Dim, b: &Dim) -> Result<Dim> {
    call.expect_dim(what, a, b)?;
    Ok(match (a, b) {
        (Dim::Known(_), _) => a.clone(),
        (_, Dim::Known(_)) | (Dim::Unknown, _) => b.clone(),
        _ => a.clone(),
    })
}

/// The largest size of an axis: files and runtimes hold sizes in an `i64`.
const LARGEST: usize = usize::MAX >> 1;

/// Returns a computed size; `None` stands for an overflow.
///
/// # Errors
/// When it is 2^63 or more.
pub fn size(call: &Call, computed: Option<usize>) -> Result<Dim> {
    let fits = computed.filter(|&n| n <= LARGEST).map(Dim::Known);
    fits.ok_or_else(|| call.error("makes an axis of 2^63 elements or more; check its attributes and sizes"))
}

/// Returns `dim + by`, `None` where that is negative.
///
/// # Errors
/// As [`size`].
pub fn plus(call: &Call, dim: &Dim, by: i64) -> Result<Option<Dim>> {
    match dim {
        Dim::Known(n) => match usize::try_from(by) {
            Ok(by) => size(call, n.checked_add(by)).map(Some),
            Err(_) => Ok(usize::try_from(by.unsigned_abs()).ok().and_then(|by| n.checked_sub(by)).map(Dim::Known)),
        },
        other if by == 0 => Ok(Some(other.clone())),
        _ => Ok(Some(Dim::Unknown)),
    }
}

/// Returns `a + b`.
///
/// # Errors
/// As [`size`].
pub fn sum(call: &Call, a: &Dim, b: &Dim) -> Result<Dim> {
    match (a, b) {
        (Dim::Known(a), Dim::Known(b)) => size(call, a.checked_add(*b)),
        (Dim::Known(0), other) | (other, Dim::Known(0)) => Ok(other.clone()),
        _ => Ok(Dim::Unknown),
    }
}

/// Returns `a * b`.
///
/// # Errors
/// As [`size`].
pub fn times(call: &Call, a: &Dim, b: &Dim) -> Result<Dim> {
    match (a, b) {
        (Dim::Known(a), Dim::Known(b)) => size(call, a.checked_mul(*b)),
        (Dim::Known(1), other) | (other, Dim::Known(1)) => Ok(other.clone()),
        (Dim::Known(0), _) | (_, Dim::Known(0)) => Ok(Dim::Known(0)),
        _ => Ok(Dim::Unknown),
    }
}

/// Returns the product of `dims`, 1 for none.
///
/// # Errors
/// As [`size`].
pub fn product<'d>(call: &Call, dims: impl IntoIterator<Item = &'d Dim>) -> Result<Dim> {
    dims.into_iter().try_fold(Dim::Known(1), |n, d| times(call, &n, d))
}

/// Returns a shape as messages show it.
pub fn shown(shape: &[Dim]) -> String {
    let dims: Vec<String> = shape.iter().map(ToString::to_string).collect();
    format!("[{}]", dims.join(", "))
}
