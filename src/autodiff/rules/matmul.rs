//! Matrix products.

use crate::autodiff::{BackwardCall, Gradients};
use crate::expr::Expr;

/// Y = A·B over the last two axes, the others broadcast: dY·Bᵀ, Aᵀ·dY. Vectors count as matrices of one row or column,
/// and the rows of all batches as those of one matrix where B is one.
pub fn matmul<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
    let (a, b, dy) = (s.x(0)?, s.x(1)?, s.dy()?);
    if let ([.., depth], [_, columns], true) = (a.shape().as_slice(), b.shape().as_slice(), a.rank() > 2) {
        let rows = a.len() / (*depth).max(1);
        let dy = dy.reshape(&[rows, *columns]);
        let da = || dy.matmul(b.transposed()).reshape(&a.shape());
        let db = || a.reshape(&[rows, *depth]).transposed().matmul(dy);
        return Ok(vec![s.wants(0).then(da), s.wants(1).then(db)]);
    }
    let (row, column) = (a.rank() == 1, b.rank() == 1);
    let a2 = if row { a.unsqueeze(&[0]) } else { a };
    let b2 = if column { b.unsqueeze(&[1]) } else { b };
    let mut shape = dy.shape();
    if row {
        shape.insert(shape.len() - usize::from(!column), 1);
    }
    if column {
        shape.push(1);
    }
    let dy = dy.reshape(&shape);
    let da = || dy.matmul(b2.transposed());
    let db = || a2.transposed().matmul(dy);
    // A vector's own axis stands last in `da` and `db`, behind whatever was broadcast.
    let drop = |gradient: Expr<'b>, vector: bool, at: usize| {
        let mut shape = gradient.shape();
        if vector {
            shape.remove(shape.len() - at);
        }
        gradient.reshape(&shape)
    };
    Ok(vec![s.wants(0).then(|| drop(da(), row, 2)), s.wants(1).then(|| drop(db(), column, 1))])
}

/// Y = α·A'·B' + β·C, with A' and B' transposed where the attributes say so.
pub fn gemm<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
    let (a, b, dy) = (s.x(0)?, s.x(1)?, s.dy()?);
    let (alpha, beta) = (s.attrs.float("alpha", 1.0), s.attrs.float("beta", 1.0));
    let (trans_a, trans_b) = (s.attrs.int("transA", 0) != 0, s.attrs.int("transB", 0) != 0);
    let scaled = if alpha == 1.0 { dy } else { dy * alpha };
    let da = || {
        let b = if trans_b { b } else { b.transposed() };
        if trans_a { b.transposed().matmul(scaled.transposed()) } else { scaled.matmul(b) }
    };
    let db = || {
        let a = if trans_a { a } else { a.transposed() };
        if trans_b { scaled.transposed().matmul(a.transposed()) } else { a.matmul(scaled) }
    };
    let dc = || if beta == 1.0 { dy } else { dy * beta };
    Ok(vec![s.wants(0).then(da), s.wants(1).then(db), s.wants(2).then(dc)])
}
