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

/// Returns the better known of two dimensions that must be equal.
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

/// Returns `dim + by`, `None` where that is negative.
pub fn plus(dim: &Dim, by: i64) -> Option<Dim> {
    match dim {
        Dim::Known(n) => {
            let sum = i64::try_from(*n).ok()?.checked_add(by)?;
            usize::try_from(sum).ok().map(Dim::Known)
        }
        other if by == 0 => Some(other.clone()),
        _ => Some(Dim::Unknown),
    }
}

/// Returns `a + b`.
pub fn sum(a: &Dim, b: &Dim) -> Dim {
    match (a, b) {
        (Dim::Known(a), Dim::Known(b)) => a.checked_add(*b).map_or(Dim::Unknown, Dim::Known),
        (Dim::Known(0), other) | (other, Dim::Known(0)) => other.clone(),
        _ => Dim::Unknown,
    }
}

/// Returns `dim * by`.
pub fn times(dim: &Dim, by: &Dim) -> Dim {
    match (dim, by) {
        (Dim::Known(a), Dim::Known(b)) => a.checked_mul(*b).map_or(Dim::Unknown, Dim::Known),
        (Dim::Known(1), other) | (other, Dim::Known(1)) => other.clone(),
        (Dim::Known(0), _) | (_, Dim::Known(0)) => Dim::Known(0),
        _ => Dim::Unknown,
    }
}

/// Returns the product of `dims`, 1 for none.
pub fn product<'d>(dims: impl IntoIterator<Item = &'d Dim>) -> Dim {
    dims.into_iter().fold(Dim::Known(1), |n, d| times(&n, d))
}

/// Returns a shape as messages show it.
pub fn shown(shape: &[Dim]) -> String {
    let dims: Vec<String> = shape.iter().map(ToString::to_string).collect();
    format!("[{}]", dims.join(", "))
}
