//! One case per operator and form; families have files of their own.

mod elementwise;
mod linear;
mod movement;
mod own;
mod reduce;
mod resize;
mod window;

use dfq_onnx::expr::Expr;
use dfq_onnx::ir::Attr;

use super::{Case, Values};

/// Every case.
pub fn cases() -> Vec<Case> {
    let families = [
        elementwise::cases(),
        linear::cases(),
        movement::cases(),
        own::cases(),
        reduce::cases(),
        resize::cases(),
        window::cases(),
    ];
    families.into_iter().flatten().collect()
}

/// A case with one result.
fn case(
    op_type: &'static str,
    form: &str,
    operands: &[(&[usize], Values)],
    build: impl for<'b> Fn(&[Expr<'b>]) -> Expr<'b> + 'static,
) -> Case {
    let operands = operands.iter().map(|(shape, values)| (shape.to_vec(), *values)).collect();
    Case { op_type, form: form.to_owned(), operands, build: Box::new(move |x| vec![build(x)]) }
}

/// A case of the operator itself on all operands, with these attributes.
fn plain(
    op_type: &'static str,
    form: &'static str,
    operands: &[(&[usize], Values)],
    attrs: &'static [(&'static str, i64)],
) -> Case {
    case(op_type, form, operands, move |x| {
        let mut own = dfq_onnx::ir::Attrs::default();
        attrs.iter().for_each(|(name, value)| own.set(name, Attr::Int(*value)));
        x[0].builder().apply(op_type, x, own)
    })
}
