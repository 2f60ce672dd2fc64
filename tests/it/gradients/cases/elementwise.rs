//! Arithmetic and activation functions.

use dfq_onnx::ir::{Attr, DType, Tensor};

use super::{case, plain};
use crate::gradients::Case;
use crate::gradients::Values::{Apart, Positive, These};

const SHAPE: &[usize] = &[2, 3, 4];
/// Broadcast along the last axis, and along one inside.
const ROW: &[usize] = &[4];
const COLUMN: &[usize] = &[2, 1, 4];

pub fn cases() -> Vec<Case> {
    let mut cases = arithmetic();
    cases.extend(functions());
    cases.extend(activations());
    cases
}

fn arithmetic() -> Vec<Case> {
    vec![
        plain("Add", "same shape", &[(SHAPE, Apart), (SHAPE, Apart)], &[]),
        plain("Add", "broadcast to both", &[(COLUMN, Apart), (&[3, 1], Apart)], &[]),
        plain("Sub", "broadcast", &[(SHAPE, Apart), (ROW, Apart)], &[]),
        plain("Sub", "number less tensor", &[(&[], Apart), (SHAPE, Apart)], &[]),
        plain("Mul", "broadcast", &[(COLUMN, Apart), (SHAPE, Apart)], &[]),
        case("Mul", "by itself", &[(SHAPE, Apart)], |x| x[0] * x[0]),
        plain("Div", "broadcast", &[(SHAPE, Apart), (COLUMN, Positive)], &[]),
        plain("Pow", "both trained", &[(SHAPE, Positive), (ROW, Apart)], &[]),
        case("Pow", "negative base", &[(SHAPE, Apart)], |x| x[0].powf(3.0)),
        case("Pow", "square", &[(SHAPE, Apart)], |x| x[0].powf(2.0)),
        case("Pow", "integer exponents", &[(SHAPE, Apart)], |x| {
            let exponents = x[0].builder().ints(&[0, 1, 2, 5]);
            x[0].builder().apply("Pow", &[x[0], exponents], [])
        }),
        case("Pow", "zero to the power of zero and one", &[(&[2], These(&[0.0, 1.0]))], |x| {
            let exponents = x[0].builder().constant("exponents", Tensor::from_f32(&[2, 1], &[0.0, 1.0]));
            x[0].builder().apply("Pow", &[x[0], exponents], [])
        }),
        case("Div", "number by tensor", &[(SHAPE, Positive)], |x| 2.0 / x[0]),
        plain("Sum", "one", &[(SHAPE, Apart)], &[]),
        plain("Max", "one", &[(SHAPE, Apart)], &[]),
        plain("Min", "broadcast to all", &[(&[2, 1], Apart), (&[4], These(&[0.1, -0.2, 0.3, 5.0]))], &[]),
        plain("Sum", "three, broadcast", &[(SHAPE, Apart), (ROW, Apart), (COLUMN, Apart)], &[]),
        plain("Min", "broadcast", &[(SHAPE, Apart), (&[], These(&[0.0]))], &[]),
        plain("Max", "three", &[(SHAPE, Apart), (&[], These(&[-1.0])), (&[1], These(&[0.5]))], &[]),
        case("Where", "broadcast", &[(SHAPE, Apart), (ROW, Apart)], |x| {
            x[0].less(x[0].number(0.0)).choose(x[0] * 2.0, x[1])
        }),
        case("Where", "broadcast all ways", &[(&[2, 1, 4], Apart), (&[3, 1], Apart)], |x| {
            let chosen = x[0].builder().ints(&[1, 0, 1, 0]);
            let condition = chosen.equal(x[0].builder().ints(&[1]));
            condition.choose(x[0], x[1])
        }),
        case("Where", "large condition", &[(SHAPE, Apart), (&[], Apart), (&[1], Apart)], |x| {
            x[0].less(x[0].number(0.0)).choose(x[1], x[2])
        }),
    ]
}

fn functions() -> Vec<Case> {
    let of = |op_type, values| plain(op_type, "", &[(SHAPE, values)], &[]);
    vec![
        of("Neg", Apart),
        of("Abs", Apart),
        of("Exp", Apart),
        of("Log", Positive),
        of("Sqrt", Positive),
        of("Reciprocal", Positive),
        of("Identity", Apart),
        case("Cast", "to double and back", &[(SHAPE, Apart)], |x| x[0].cast(DType::F64).cast(DType::F32)),
    ]
}

fn activations() -> Vec<Case> {
    let of = |op_type| plain(op_type, "", &[(SHAPE, Apart)], &[]);
    vec![
        of("Relu"),
        of("LeakyRelu"),
        case("LeakyRelu", "alpha", &[(SHAPE, Apart)], |x| {
            x[0].builder().apply("LeakyRelu", x, [("alpha", Attr::Float(0.3))])
        }),
        plain("PRelu", "slope per channel", &[(SHAPE, Apart), (&[3, 1], Apart)], &[]),
        plain("PRelu", "one slope", &[(SHAPE, Apart), (&[1], Apart)], &[]),
        plain("PRelu", "slope of an image", &[(&[2, 3, 2, 2], Apart), (&[3, 1, 1], Apart)], &[]),
        plain("PRelu", "slope of every element", &[(SHAPE, Apart), (SHAPE, Apart)], &[]),
        case("Clip", "no bounds", &[(SHAPE, Apart)], |x| x[0].unary("Clip")),
        case("Clip", "upper bound alone", &[(SHAPE, Apart)], |x| {
            let hi = x[0].number(0.5);
            x[0].builder().call("Clip", &[Some(x[0]), None, Some(hi)], [], 1)[0]
        }),
        case("Clip", "lower bound above the upper", &[(SHAPE, Apart)], |x| x[0].clip(1.0, -1.0)),
        case("Clip", "both bounds", &[(SHAPE, Apart)], |x| x[0].clip(-1.0, 1.5)),
        case("Clip", "lower bound alone", &[(SHAPE, Apart)], |x| {
            let lo = x[0].number(-0.5);
            x[0].builder().apply("Clip", &[x[0], lo], [])
        }),
        of("Sigmoid"),
        of("HardSigmoid"),
        case("HardSigmoid", "steep", &[(SHAPE, Apart)], |x| {
            x[0].builder().apply("HardSigmoid", x, [("alpha", Attr::Float(0.5)), ("beta", Attr::Float(0.5))])
        }),
        case("HardSwish", "on both sides of its kinks", &[(SHAPE, Apart)], |x| (x[0] * 2.0).unary("HardSwish")),
        of("Tanh"),
        of("Erf"),
        of("Gelu"),
        case("Gelu", "tanh", &[(SHAPE, Apart)], |x| x[0].builder().apply("Gelu", x, [("approximate", "tanh".into())])),
        of("Softplus"),
        of("Elu"),
        case("Elu", "alpha", &[(SHAPE, Apart)], |x| x[0].builder().apply("Elu", x, [("alpha", Attr::Float(0.3))])),
        of("Mish"),
    ]
}
