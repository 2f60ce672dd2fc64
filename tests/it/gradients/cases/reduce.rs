//! Reductions and softmax.

use super::{case, plain};
use crate::gradients::Case;
use crate::gradients::Values::Apart;

const SHAPE: &[usize] = &[2, 3, 4];

pub fn cases() -> Vec<Case> {
    vec![
        case("ReduceSum", "one axis dropped", &[(SHAPE, Apart)], |x| x[0].sum(&[1], false)),
        case("ReduceSum", "two axes kept", &[(SHAPE, Apart)], |x| x[0].sum(&[0, 2], true)),
        case("ReduceSum", "all", &[(SHAPE, Apart)], |x| x[0].sum(&[], false)),
        case("ReduceSum", "axis from behind", &[(SHAPE, Apart)], |x| {
            let axes = x[0].builder().ints(&[-1]);
            x[0].builder().apply("ReduceSum", &[x[0], axes], [])
        }),
        plain("ReduceSum", "no axes, nothing to do", &[(SHAPE, Apart)], &[("noop_with_empty_axes", 1)]),
        case("ReduceMean", "two axes dropped", &[(SHAPE, Apart)], |x| x[0].mean(&[0, 2], false)),
        case("ReduceMean", "all", &[(SHAPE, Apart)], |x| x[0].mean(&[], true)),
        case("ReduceSum", "no axis is listed", &[(SHAPE, Apart)], |x| {
            let none = x[0].builder().ints(&[]);
            x[0].builder().apply("ReduceSum", &[x[0], none], [])
        }),
        case("ReduceMean", "no axis is listed, nothing to do", &[(SHAPE, Apart)], |x| {
            let none = x[0].builder().ints(&[]);
            x[0].builder().apply("ReduceMean", &[x[0], none], [("noop_with_empty_axes", 1.into())])
        }),
        plain("ReduceMean", "no axes, nothing to do", &[(SHAPE, Apart)], &[("noop_with_empty_axes", 1)]),
        plain("ReduceMax", "no axes, nothing to do", &[(SHAPE, Apart)], &[("noop_with_empty_axes", 1)]),
        case("ReduceMean", "axes from behind", &[(SHAPE, Apart)], |x| {
            let axes = x[0].builder().ints(&[-1, -3]);
            x[0].builder().apply("ReduceMean", &[x[0], axes], [("keepdims", 0.into())])
        }),
        case("ReduceMax", "axis from behind", &[(SHAPE, Apart)], |x| {
            let axes = x[0].builder().ints(&[-2]);
            x[0].builder().apply("ReduceMax", &[x[0], axes], [("keepdims", 0.into())])
        }),
        case("ReduceMax", "one axis", &[(SHAPE, Apart)], |x| x[0].largest(&[2], false)),
        case("ReduceMax", "all", &[(SHAPE, Apart)], |x| x[0].largest(&[], true)),
        case("ReduceMin", "one axis", &[(SHAPE, Apart)], |x| {
            let axes = x[0].builder().ints(&[1]);
            x[0].builder().apply("ReduceMin", &[x[0], axes], [])
        }),
        plain("ReduceMin", "all dropped", &[(SHAPE, Apart)], &[("keepdims", 0)]),
        plain("Softmax", "last axis", &[(SHAPE, Apart)], &[]),
        plain("Softmax", "axis 1", &[(SHAPE, Apart)], &[("axis", 1)]),
        plain("Softmax", "axis from behind", &[(SHAPE, Apart)], &[("axis", -2)]),
        plain("LogSoftmax", "axis from behind", &[(SHAPE, Apart)], &[("axis", -3)]),
        plain("LogSoftmax", "last axis", &[(SHAPE, Apart)], &[]),
        plain("LogSoftmax", "axis 0", &[(SHAPE, Apart)], &[("axis", 0)]),
    ]
}
