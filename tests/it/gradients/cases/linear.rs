//! Products of matrices.

use dfq_onnx::ir::{Attr, Attrs};

use super::{case, plain};
use crate::gradients::Case;
use crate::gradients::Values::Apart;

pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        plain("MatMul", "matrices", &[(&[3, 4], Apart), (&[4, 5], Apart)], &[]),
        plain("MatMul", "batches", &[(&[2, 3, 4], Apart), (&[2, 4, 5], Apart)], &[]),
        plain("MatMul", "broadcast batches", &[(&[2, 1, 3, 4], Apart), (&[3, 4, 5], Apart)], &[]),
        plain("MatMul", "batch by matrix", &[(&[2, 3, 4], Apart), (&[4, 5], Apart)], &[]),
        plain("MatMul", "row by matrix", &[(&[4], Apart), (&[4, 5], Apart)], &[]),
        plain("MatMul", "matrix by column", &[(&[3, 4], Apart), (&[4], Apart)], &[]),
        plain("MatMul", "row by batches", &[(&[4], Apart), (&[2, 4, 5], Apart)], &[]),
        plain("MatMul", "batches by column", &[(&[2, 3, 4], Apart), (&[4], Apart)], &[]),
        plain("MatMul", "row by column", &[(&[4], Apart), (&[4], Apart)], &[]),
        plain("MatMul", "matrix by batches", &[(&[3, 4], Apart), (&[2, 4, 5], Apart)], &[]),
        plain("MatMul", "batches of batches by matrix", &[(&[2, 3, 2, 4], Apart), (&[4, 5], Apart)], &[]),
        plain("MatMul", "broadcast both ways", &[(&[2, 1, 3, 4], Apart), (&[1, 3, 4, 2], Apart)], &[]),
        plain("MatMul", "row by column of batches", &[(&[4], Apart), (&[2, 4, 1], Apart)], &[]),
        plain("Gemm", "no bias", &[(&[3, 4], Apart), (&[4, 5], Apart)], &[]),
        plain("Gemm", "bias per row", &[(&[3, 4], Apart), (&[4, 5], Apart), (&[3, 1], Apart)], &[]),
    ];
    for (form, bias) in [("one number", &[][..]), ("one element", &[1]), ("one row", &[1, 5]), ("whole", &[3, 5])] {
        let operands = [(&[3, 4][..], Apart), (&[4, 5], Apart), (bias, Apart)];
        cases.push(case("Gemm", &format!("bias of {form}"), &operands, |x| {
            x[0].builder().apply("Gemm", x, [("beta", Attr::Float(-0.7))])
        }));
    }
    let forms = [("scaled", 0, 0), ("A transposed", 1, 0), ("B transposed", 0, 1), ("both transposed", 1, 1)];
    for (form, a, b) in forms {
        let shape = |transposed: i64, [rows, columns]: [usize; 2]| match transposed {
            0 => [rows, columns],
            _ => [columns, rows],
        };
        let (x, w) = (shape(a, [3, 4]), shape(b, [4, 5]));
        cases.push(case("Gemm", form, &[(&x, Apart), (&w, Apart), (&[5], Apart)], move |x| {
            let scales: [(&str, Attr); 2] = [("alpha", 0.5.into()), ("beta", 2.0.into())];
            let mut attrs = Attrs::from(scales);
            attrs.set("transA", a);
            attrs.set("transB", b);
            x[0].builder().apply("Gemm", x, attrs)
        }));
    }
    cases
}
