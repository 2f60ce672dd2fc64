//! Matrix products.

use crate::error::Result;
use crate::ir::Dim;
use crate::shape::dims::broadcast;
use crate::shape::{Call, Fact};

/// `[…, M, K] x […, K, N]` to `[…, M, N]`; vectors as numpy's matmul has them.
pub fn matmul(call: &Call) -> Result<Vec<Fact>> {
    let (Some(a), Some(b)) = (call.shape(0), call.shape(1)) else { return Ok(vec![call.shaped(None)]) };
    if a.is_empty() || b.is_empty() {
        return Err(call.error("expected inputs of rank 1 or more, found a scalar"));
    }
    let (a_batch, a_row, a_inner) = match a.as_slice() {
        [k] => (&[][..], None, k),
        [batch @ .., m, k] => (batch, Some(m), k),
        [] => unreachable!("scalars were refused"),
    };
    let (b_batch, b_column, b_inner) = match b.as_slice() {
        [k] => (&[][..], None, k),
        [batch @ .., k, n] => (batch, Some(n), k),
        [] => unreachable!("scalars were refused"),
    };
    call.expect_dim("inner dimension of input 1", a_inner, b_inner)?;
    let mut y = broadcast(call, a_batch, b_batch)?;
    y.extend(a_row.into_iter().chain(b_column).cloned());
    Ok(vec![call.shaped(Some(y))])
}

/// `alpha * A' * B' + beta * C` to `[M, N]`.
pub fn gemm(call: &Call) -> Result<Vec<Fact>> {
    let matrix = |i: usize, transposed: &str| -> Result<Option<[&Dim; 2]>> {
        match call.shape(i).map(Vec::as_slice) {
            None => Ok(None),
            Some([r, c]) if call.attrs.int(transposed, 0) == 0 => Ok(Some([r, c])),
            Some([r, c]) => Ok(Some([c, r])),
            Some(other) => Err(call.error(format!("input {i}: expected rank 2, found rank {}", other.len()))),
        }
    };
    let (a, b) = (matrix(0, "transA")?, matrix(1, "transB")?);
    if let (Some([_, a_inner]), Some([b_inner, _])) = (a, b) {
        call.expect_dim("inner dimension of input 1", a_inner, b_inner)?;
    }
    let or_unknown = |d: Option<&Dim>| d.cloned().unwrap_or(Dim::Unknown);
    let y = vec![or_unknown(a.map(|[m, _]| m)), or_unknown(b.map(|[_, n]| n))];
    if let (Some(c), true) = (call.shape(2), call.opset >= 7) {
        let whole = broadcast(call, &y, c)?;
        for (expected, found) in y.iter().zip(&whole) {
            call.expect_dim("input 2 must broadcast to the product", expected, found)?;
        }
    }
    Ok(vec![call.shaped(Some(y))])
}
