//! Graphs of common operators whose newer versions only took in more types or optional attributes.

use dfq_onnx::ir::{Attr, DType, Graph, Tensor};

use super::cases::node;
use crate::support::build::Build;

/// What a case is made of: the operator's first inputs are `x: [2, 4, 6, 5]` or the constants that it names.
struct Case {
    name: &'static str,
    opset: i64,
    op: &'static str,
    inputs: &'static str,
    outputs: &'static str,
    attrs: Vec<(&'static str, Attr)>,
}

fn case(
    name: &'static str,
    (opset, op): (i64, &'static str),
    (inputs, outputs): (&'static str, &'static str),
    attrs: Vec<(&'static str, Attr)>,
) -> Case {
    Case { name, opset, op, inputs, outputs, attrs }
}

/// Constants that cases name.
fn constants() -> Vec<(&'static str, Tensor)> {
    let ramp = |shape: &[usize]| {
        let n = u16::try_from(shape.iter().product::<usize>()).unwrap();
        Tensor::from_f32(shape, &(0..n).map(|i| f32::from(i * 7 % 11) / 8.0 - 0.5).collect::<Vec<_>>())
    };
    let ints = |values: &[i64]| Tensor::from_i64(&[values.len()], values);
    let scalar = |value: f32| Tensor::from_f32(&[], &[value]);
    vec![
        ("row", ramp(&[5])),
        ("matrix", ramp(&[5, 3])),
        ("sequence", ramp(&[3, 2, 4])),
        ("gru_w", ramp(&[1, 9, 4])),
        ("gru_r", ramp(&[1, 9, 3])),
        ("rnn_w", ramp(&[1, 3, 4])),
        ("rnn_r", ramp(&[1, 3, 3])),
        ("indices", ints(&[2, 0, -1])),
        ("pairs", Tensor::from_i64(&[2, 2], &[1, 3, 0, 2])),
        ("picks", Tensor::from_i64(&[1, 1, 1, 5], &[0, 1, 2, 1, 0])),
        ("depth", Tensor::from_i64(&[], &[4])),
        ("off_on", Tensor::from_f32(&[2], &[0.25, 2.0])),
        ("axis", Tensor::from_i64(&[], &[2])),
        ("k", ints(&[2])),
        ("repeats", ints(&[1, 2, 1, 3])),
        ("shape", ints(&[2, 4, 6, 5])),
        ("flags", Tensor::new(DType::Bool, vec![5], vec![1u8, 0, 1, 1, 0].into()).unwrap()),
        ("start", scalar(0.5)),
        ("end", scalar(7.0)),
        ("step", scalar(1.5)),
        ("boxes", Tensor::from_f32(&[1, 3, 4], &[0., 0., 1., 1., 0., 0.1, 1., 1.1, 2., 2., 3., 3.])),
        ("scores", Tensor::from_f32(&[1, 1, 3], &[0.9, 0.8, 0.7])),
        ("most", ints(&[3])),
        ("overlap", Tensor::from_f32(&[1], &[0.5])),
        ("least", Tensor::from_f32(&[1], &[0.1])),
        ("mask", ramp(&[4, 1, 1])),
    ]
}

const XY: (&str, &str) = ("x", "y");

fn elementwise() -> Vec<Case> {
    let mut cases: Vec<Case> = [
        (7, "Elu"),
        (7, "Selu"),
        (7, "HardSigmoid"),
        (7, "Softplus"),
        (7, "Softsign"),
        (7, "Sigmoid"),
        (7, "Tanh"),
        (7, "Exp"),
        (7, "Floor"),
        (7, "Ceil"),
        (7, "Neg"),
        (7, "Sin"),
        (7, "Atan"),
        (9, "Sinh"),
        (9, "Erf"),
        (9, "Sign"),
        (9, "IsNaN"),
        (10, "ThresholdedRelu"),
        (10, "IsInf"),
        (11, "Round"),
        (14, "HardSwish"),
        (18, "Mish"),
        (20, "Gelu"),
        (12, "Celu"),
        (9, "Shrink"),
        (7, "Identity"),
        (7, "Size"),
        (7, "Shape"),
        (8, "MeanVarianceNormalization"),
        (9, "NonZero"),
    ]
    .into_iter()
    .map(|(opset, op)| case(op, (opset, op), XY, vec![]))
    .collect();
    for (opset, op) in [(7, "Add"), (7, "Sub"), (7, "Mul"), (7, "Div"), (8, "Mean"), (8, "Min")] {
        cases.push(case(op, (opset, op), ("x row", "y"), vec![]));
    }
    for (opset, op) in [(7, "Greater"), (7, "Less"), (11, "Equal"), (12, "GreaterOrEqual"), (12, "LessOrEqual")] {
        cases.push(case(op, (opset, op), ("x row", "y"), vec![]));
    }
    cases.extend([
        case("Mod of floats", (10, "Mod"), ("x end", "y"), vec![("fmod", 1.into())]),
        case("Where", (9, "Where"), ("flags x row", "y"), vec![]),
        case("PRelu with a slope a channel", (7, "PRelu"), ("x mask", "y"), vec![]),
        case("Cast to integers", (7, "Cast"), XY, vec![("to", 6.into())]),
        case("CumSum", (11, "CumSum"), ("x axis", "y"), vec![("reverse", 1.into())]),
        case("Expand", (8, "Expand"), ("row shape", "y"), vec![]),
        case("Range", (11, "Range"), ("start end step", "y"), vec![]),
    ]);
    cases
}

fn selections() -> Vec<Case> {
    let axis = |axis: i64| ("axis", Attr::Int(axis));
    vec![
        case("ArgMax of the first", (7, "ArgMax"), XY, vec![axis(3)]),
        case("ArgMax of the last", (12, "ArgMax"), XY, vec![axis(1), ("select_last_index", 1.into())]),
        case("ArgMin", (7, "ArgMin"), XY, vec![axis(2), ("keepdims", 0.into())]),
        case("OneHot", (9, "OneHot"), ("indices depth off_on", "y"), vec![axis(0)]),
        case("TopK of the smallest", (11, "TopK"), ("x k", "y i"), vec![axis(2), ("largest", 0.into())]),
        case("Gather", (7, "Gather"), ("x indices", "y"), vec![axis(1)]),
        case("GatherElements", (11, "GatherElements"), ("x picks", "y"), vec![axis(2)]),
        case("GatherND", (11, "GatherND"), ("x pairs", "y"), vec![]),
        case("ScatterElements", (11, "ScatterElements"), ("x picks picked", "y"), vec![axis(2)]),
        case("Compress", (9, "Compress"), ("x flags", "y"), vec![axis(3)]),
        case("NonMaxSuppression", (10, "NonMaxSuppression"), ("boxes scores most overlap least", "y"), vec![]),
        case("Concat", (7, "Concat"), ("x x", "y"), vec![axis(1)]),
        case("Tile", (7, "Tile"), ("x repeats", "y"), vec![]),
        case("Transpose", (7, "Transpose"), XY, vec![("perm", vec![2, 0, 3, 1].into())]),
        case("Flatten from the end", (11, "Flatten"), XY, vec![axis(-2)]),
        case("Reshape", (7, "Reshape"), ("x shape", "y"), vec![]),
    ]
}

fn layers() -> Vec<Case> {
    let hidden = || ("hidden_size", Attr::Int(3));
    let kernel = || ("kernel_shape", Attr::Ints(vec![2, 2]));
    vec![
        case("GRU", (7, "GRU"), ("sequence gru_w gru_r", "y h"), vec![hidden(), ("linear_before_reset", 1.into())]),
        case("RNN", (7, "RNN"), ("sequence rnn_w rnn_r", "y h"), vec![hidden()]),
        case("MatMul", (7, "MatMul"), ("x matrix", "y"), vec![]),
        case("LayerNormalization", (17, "LayerNormalization"), ("x row row", "y"), vec![]),
        case("LpNormalization", (7, "LpNormalization"), XY, vec![("axis", 1.into())]),
        case("LpPool", (7, "LpPool"), XY, vec![kernel(), ("strides", vec![2, 2].into())]),
        case(
            "LpPool in ceil mode",
            (18, "LpPool"),
            XY,
            vec![kernel(), ("strides", vec![2, 2].into()), ("ceil_mode", 1.into())],
        ),
        case("AveragePool with padding", (7, "AveragePool"), XY, vec![kernel(), ("pads", vec![1, 0, 1, 1].into())]),
        case(
            "AveragePool of the same size",
            (11, "AveragePool"),
            XY,
            vec![kernel(), ("auto_pad", "SAME_UPPER".into())],
        ),
        case("AveragePool with dilation", (19, "AveragePool"), XY, vec![kernel(), ("dilations", vec![2, 2].into())]),
        case("MaxPool with dilation", (10, "MaxPool"), XY, vec![kernel(), ("dilations", vec![2, 1].into())]),
        case("GlobalMaxPool", (7, "GlobalMaxPool"), XY, vec![]),
        case("LRN with bias", (7, "LRN"), XY, vec![("size", 5.into()), ("bias", 2.0.into()), ("alpha", 0.1.into())]),
        case("Softmax of the last axis", (13, "Softmax"), XY, vec![]),
        case("SpaceToDepth", (7, "SpaceToDepth"), ("even", "y"), vec![("blocksize", 2.into())]),
        case(
            "DepthToSpace by columns",
            (11, "DepthToSpace"),
            XY,
            vec![("blocksize", 2.into()), ("mode", "CRD".into())],
        ),
    ]
}

/// Returns each case with its name; the graph's opset is the one that it is upgraded from.
pub fn cases() -> Vec<(String, Graph)> {
    let build = |case: Case| {
        let mut g = Build::at(case.opset);
        g.input("x", &[2, 4, 6, 5]);
        let named = |name: &str| case.inputs.split(' ').any(|input| input == name);
        for (name, tensor) in constants().into_iter().filter(|(name, _)| named(name)) {
            g.constant(name, tensor);
        }
        if named("picked") {
            g.constant("picked", Tensor::from_f32(&[1, 1, 1, 5], &[1.0, 2.0, 3.0, 4.0, 5.0]));
        }
        if named("even") {
            let pads = vec![("pads", Attr::Ints(vec![0, 0, 0, 0, 0, 0, 0, 1]))];
            node(&mut g, "Pad", ("x", "even"), pads);
        }
        node(&mut g, case.op, (case.inputs, case.outputs), case.attrs);
        (format!("{} from {}", case.name, case.opset), g.outputs(case.outputs))
    };
    elementwise().into_iter().chain(selections()).chain(layers()).map(build).collect()
}
