//! Operators that move elements.

use dfq_onnx::expr::Expr;
use dfq_onnx::ir::{Attr, Attrs, DType, Tensor};

use super::{case, plain};
use crate::gradients::Case;
use crate::gradients::Values::Apart;

const SHAPE: &[usize] = &[2, 3, 4];

pub fn cases() -> Vec<Case> {
    let mut cases = shapes();
    cases.extend(parts());
    cases.extend(picks());
    cases
}

/// `x` and lists of integers through an operator.
fn with<'b>(op_type: &str, x: Expr<'b>, lists: &[&[i64]], attrs: impl Into<Attrs>) -> Expr<'b> {
    let inputs: Vec<Expr> = std::iter::once(x).chain(lists.iter().map(|list| x.builder().ints(list))).collect();
    x.builder().apply(op_type, &inputs, attrs)
}

fn shapes() -> Vec<Case> {
    let perm = |axes: &[i64]| [("perm", Attr::Ints(axes.to_vec()))];
    vec![
        case("Reshape", "with -1", &[(SHAPE, Apart)], |x| with("Reshape", x[0], &[&[6, -1]], [])),
        plain("Flatten", "axis 1", &[(SHAPE, Apart)], &[]),
        case("Reshape", "with a size kept", &[(SHAPE, Apart)], |x| with("Reshape", x[0], &[&[0, -1]], [])),
        plain("Flatten", "axis 0", &[(SHAPE, Apart)], &[("axis", 0)]),
        plain("Flatten", "axis from behind", &[(SHAPE, Apart)], &[("axis", -1)]),
        plain("Flatten", "axis 2", &[(SHAPE, Apart)], &[("axis", 2)]),
        case("Squeeze", "axes", &[(&[2, 1, 3, 1], Apart)], |x| with("Squeeze", x[0], &[&[1, -1]], [])),
        case("Squeeze", "all", &[(&[2, 1, 3, 1], Apart)], |x| x[0].unary("Squeeze")),
        case("Unsqueeze", "two", &[(SHAPE, Apart)], |x| with("Unsqueeze", x[0], &[&[0, 4]], [])),
        case("Transpose", "reversed", &[(SHAPE, Apart)], |x| x[0].unary("Transpose")),
        case("Transpose", "rotated", &[(SHAPE, Apart)], move |x| {
            x[0].builder().apply("Transpose", x, perm(&[1, 2, 0]))
        }),
        case("Expand", "inside and in front", &[(&[3, 1], Apart)], |x| x[0].expand(&[2, 3, 4])),
        case("Expand", "both ways", &[(&[3, 1], Apart)], |x| with("Expand", x[0], &[&[2, 1, 4]], [])),
        case("Expand", "to less", &[(SHAPE, Apart)], |x| with("Expand", x[0], &[&[1]], [])),
        plain("DepthToSpace", "blocks of three", &[(&[1, 18, 2, 1], Apart)], &[("blocksize", 3)]),
        plain("SpaceToDepth", "", &[(&[2, 3, 4, 6], Apart)], &[("blocksize", 2)]),
        plain("DepthToSpace", "DCR", &[(&[2, 8, 2, 3], Apart)], &[("blocksize", 2)]),
        case("DepthToSpace", "CRD", &[(&[2, 8, 2, 3], Apart)], |x| {
            x[0].builder().apply("DepthToSpace", x, [("blocksize", Attr::Int(2)), ("mode", "CRD".into())])
        }),
    ]
}

fn reflected(mode: &'static str, form: &str, widths: &'static [i64]) -> Case {
    case("Pad", &format!("{mode}, {form}"), &[(SHAPE, Apart)], move |x| {
        with("Pad", x[0], &[widths], [("mode", mode.into())])
    })
}

fn parts() -> Vec<Case> {
    let slice = |form, lists: &'static [&'static [i64]]| {
        case("Slice", form, &[(&[4, 7], Apart)], move |x| with("Slice", x[0], lists, []))
    };
    let mut cases = vec![
        slice("both axes", &[&[1, 2], &[3, 6]]),
        slice("from behind, beyond the end", &[&[-3], &[100], &[1]]),
        slice("every second", &[&[1], &[7], &[1], &[2]]),
        slice("axis from behind", &[&[1], &[3], &[-2]]),
        slice("every third from behind", &[&[-1], &[i64::MIN], &[-1], &[-3]]),
        slice("backwards", &[&[5, -1], &[0, -100], &[1, 0], &[-2, -1]]),
        case("Pad", "both sides", &[(SHAPE, Apart)], |x| x[0].pad(&[0, 1, 2], &[1, 0, 3])),
        case("Pad", "cuts", &[(SHAPE, Apart)], |x| with("Pad", x[0], &[&[0, -1, 1, 0, 0, -2]], [])),
        case("Pad", "axes", &[(SHAPE, Apart)], |x| {
            let b = x[0].builder();
            let inputs = [Some(x[0]), Some(b.ints(&[1, 2])), None, Some(b.ints(&[-1]))];
            b.call("Pad", &inputs, [], 1)[0]
        }),
        case("Pad", "axes in another order", &[(SHAPE, Apart)], |x| {
            let b = x[0].builder();
            let inputs = [Some(x[0]), Some(b.ints(&[1, 0, 2, -1])), Some(x[0].number(0.5)), Some(b.ints(&[-1, 0]))];
            b.call("Pad", &inputs, [], 1)[0]
        }),
        reflected("reflect", "both sides of two axes", &[0, 1, 2, 0, 1, 3]),
        reflected("reflect", "as far as it goes", &[1, 2, 0, 0, 2, 0]),
        reflected("reflect", "nothing", &[0; 6]),
        reflected("edge", "both sides of all axes", &[1, 2, 5, 2, 1, 4]),
        reflected("edge", "one side", &[0, 3, 0, 0, 0, 6]),
        case("Pad", "reflect, axes", &[(SHAPE, Apart)], |x| {
            let b = x[0].builder();
            let inputs = [Some(x[0]), Some(b.ints(&[2, 1, 3, 0])), None, Some(b.ints(&[-1, 0]))];
            b.call("Pad", &inputs, [("mode", "reflect".into())], 1)[0]
        }),
        case("Concat", "one part twice", &[(SHAPE, Apart)], |x| x[0].concat(&[x[0] * 2.0, x[0]], 0)),
        plain("Concat", "axis 1", &[(SHAPE, Apart), (&[2, 1, 4], Apart), (SHAPE, Apart)], &[("axis", 1)]),
        plain("Concat", "last axis", &[(SHAPE, Apart), (&[2, 3, 1], Apart)], &[("axis", -1)]),
    ];
    let split = |form, used: &'static [usize]| {
        let mut made = case("Split", form, &[(&[4, 7], Apart)], |x| x[0]);
        made.build = Box::new(move |x| {
            let parts = x[0].split(1, &[1, 4, 2]);
            used.iter().map(|&i| parts[i]).collect()
        });
        made
    };
    let mut uneven = case("Split", "uneven", &[(&[4, 7], Apart)], |x| x[0]);
    uneven.build = Box::new(|x| {
        let attrs = [("axis", Attr::Int(-1)), ("num_outputs", Attr::Int(3))];
        x[0].builder().call("Split", &[Some(x[0])], attrs, 3)
    });
    cases.push(uneven);
    cases.push(split("all used", &[0, 1, 2]));
    cases.push(split("one not used", &[2, 0]));
    cases
}

fn picks() -> Vec<Case> {
    let gather = |form, shape: &'static [usize], indices: &'static [i64], axis: i64| {
        case("Gather", form, &[(&[4, 5], Apart)], move |x| {
            let indices = x[0].builder().constant("indices", Tensor::from_i64(shape, indices));
            x[0].builder().apply("Gather", &[x[0], indices], [("axis", Attr::Int(axis))])
        })
    };
    vec![
        gather("rows, some twice", &[3], &[2, 0, 2], 0),
        gather("columns by a matrix, from behind", &[2, 2], &[-1, 0, 3, -1], 1),
        gather("axis from behind", &[2, 1], &[0, -4], -1),
        gather("one from behind", &[], &[-1], 1),
        case("Gather", "int32", &[(&[4, 5], Apart)], |x| {
            let indices = Tensor::from_ints(DType::I32, &[3], &[1, -1, 1]).unwrap();
            x[0].builder().apply("Gather", &[x[0], x[0].builder().constant("indices", indices)], [])
        }),
        gather("one row", &[], &[1], 0),
    ]
}
