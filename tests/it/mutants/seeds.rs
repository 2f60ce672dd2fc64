//! Small sound models of many kinds, to be mutated.

use dfq_onnx::ir::{Attr, Body, DType, Graph, Tensor};
use dfq_onnx::onnx;

use crate::support::build::Build;
use crate::support::net::{layer, norm, pads};
use crate::support::nets;
use crate::support::qdq_net::float_net;

/// Returns each model with its name.
pub fn seeds() -> Vec<(&'static str, Graph)> {
    let decoded = |bytes: Vec<u8>| onnx::decode(bytes.into()).unwrap();
    vec![
        ("net", decoded(nets::net(|_| ()))),
        ("normalized", decoded(nets::normalised_net(|_| ()))),
        ("halves", decoded(nets::net_with_a_middle_of(DType::F16))),
        ("residual", float_net()),
        ("image", image()),
        ("decoder", decoder()),
        ("sizes", sizes()),
        ("moved", moved()),
        ("attention", attention()),
        ("words", words()),
        ("recurrent", recurrent()),
        ("pools", pools()),
        ("constants", constants()),
        ("branches", branches()),
        ("old", old()),
        ("heads", heads()),
    ]
}

fn ints(name: &'static str, values: &[i64]) -> (&'static str, Attr) {
    (name, Attr::Ints(values.to_vec()))
}

/// Convolutions with groups, strides and normalisation, a joint and a sum.
fn image() -> Graph {
    let mut g = Build::at(13);
    g.fed("x", DType::F32, "N, 3, 8, 8");
    layer(&mut g, "Conv", "x", "a", &[4, 3, 3, 3], 4, pads(1));
    norm(&mut g, "a", "n", 4);
    g.constant("low", Tensor::from_f32(&[], &[0.0]));
    g.constant("high", Tensor::from_f32(&[], &[6.0]));
    g.node("Clip", "n low high", "r", []);
    let grouped = [ints("pads", &[1, 1, 1, 1]), ("group", Attr::Int(4)), ints("kernel_shape", &[3, 3])];
    layer(&mut g, "Conv", "r", "d", &[4, 1, 3, 3], 4, grouped);
    g.constant("slope", Tensor::from_f32(&[4, 1, 1], &[0.1, 0.2, 0.3, 0.4]));
    g.node("PRelu", "d slope", "p", []);
    g.node("Add", "p r", "s", []);
    g.node("Concat", "s r", "j", [("axis", Attr::Int(1))]);
    layer(&mut g, "Conv", "j", "e", &[2, 8, 1, 1], 2, [ints("strides", &[2, 2]), ints("dilations", &[1, 1])]);
    g.node("ReduceMean", "e", "m", [ints("axes", &[2, 3]), ("keepdims", Attr::Int(0))]);
    layer(&mut g, "Gemm", "m", "y", &[3, 2], 3, [("transB", Attr::Int(1)), ("alpha", Attr::Float(1.0))]);
    g.declare("y", DType::F32);
    g.outputs("y")
}

/// Transposed convolutions and enlargements.
fn decoder() -> Graph {
    let mut g = Build::at(17);
    g.fed("x", DType::F32, "1, 3, 4, 4");
    let up = [ints("strides", &[2, 2]), ints("pads", &[1, 1, 1, 1]), ints("output_padding", &[1, 1])];
    layer(&mut g, "ConvTranspose", "x", "a", &[3, 4, 3, 3], 4, up);
    g.node("Relu", "a", "r", []);
    g.constant("scales", Tensor::from_f32(&[4], &[1.0, 1.0, 2.0, 2.0]));
    g.node("Resize", "r _ scales", "b", [("mode", "linear".into())]);
    g.ints("grown", &[1, 4, 20, 20]);
    g.node("Resize", "b _ _ grown", "c", [("mode", "nearest".into())]);
    layer(&mut g, "Conv", "c", "d", &[4, 4, 3, 3], 4, [("auto_pad", Attr::from("SAME_UPPER"))]);
    g.node("DepthToSpace", "d", "e", [("blocksize", Attr::Int(2))]);
    g.ints("around", &[0, 0, 1, 1, 0, 0, 1, 1]);
    g.node("Pad", "e around", "f", [("mode", "constant".into())]);
    layer(&mut g, "Conv", "f", "y", &[2, 1, 3, 3], 2, []);
    g.declare("y", DType::F32);
    g.outputs("y")
}

/// Shapes that are computed: Shape, Gather, Concat, Reshape, Range, Expand, Tile.
fn sizes() -> Graph {
    let mut g = Build::at(13);
    g.fed("x", DType::F32, "N, 2, 4, 4");
    layer(&mut g, "Conv", "x", "c", &[4, 2, 3, 3], 4, pads(1));
    g.node("Shape", "c", "shape", []);
    g.ints("zero", &[0]);
    g.node("Gather", "shape zero", "n", [("axis", Attr::Int(0))]);
    g.ints("rest", &[-1]);
    g.node("Concat", "n rest", "target", [("axis", Attr::Int(0))]);
    g.node("Reshape", "c target", "f", []);
    layer(&mut g, "MatMul", "f", "m", &[64, 6], 0, []);
    g.ints("repeats", &[1, 2]);
    g.node("Tile", "m repeats", "t", []);
    g.ints("wide", &[1, 12]);
    g.node("ConstantOfShape", "wide", "zeros", [("value", Tensor::from_f32(&[1], &[0.5]).into())]);
    g.node("Add", "t zeros", "s", []);
    for (name, value) in [("start", 0), ("limit", 12), ("delta", 1)] {
        g.constant(name, Tensor::from_i64(&[], &[value]));
    }
    g.node("Range", "start limit delta", "positions", []);
    g.node("Cast", "positions", "p", [("to", Attr::Int(1))]);
    g.ints("one", &[1, 12]);
    g.node("Expand", "p one", "q", []);
    g.node("Mul", "s q", "u", []);
    layer(&mut g, "Gemm", "u", "y", &[12, 3], 3, []);
    g.declare("y", DType::F32);
    g.outputs("y")
}

/// Axes that are moved, cut and split.
fn moved() -> Graph {
    let mut g = Build::at(13);
    g.fed("x", DType::F32, "1, 4, 6, 6");
    layer(&mut g, "Conv", "x", "c", &[4, 4, 1, 1], 4, []);
    g.node("Transpose", "c", "t", [ints("perm", &[0, 2, 3, 1])]);
    for (name, values) in [("starts", [1, 0]), ("ends", [5, 6]), ("axes", [1, 2]), ("steps", [1, 2])] {
        g.ints(name, &values);
    }
    g.node("Slice", "t starts ends axes steps", "s", []);
    g.ints("lengths", &[1, 3]);
    g.node("Split", "s lengths", "a b", [("axis", Attr::Int(1))]);
    g.node("Concat", "b a", "j", [("axis", Attr::Int(1))]);
    g.ints("first", &[0]);
    g.node("Squeeze", "j first", "q", []);
    g.node("Unsqueeze", "q first", "u", []);
    g.node("Flatten", "u", "f", [("axis", Attr::Int(1))]);
    layer(&mut g, "Gemm", "f", "y", &[48, 3], 3, []);
    g.declare("y", DType::F32);
    g.outputs("y")
}

/// A product of activations with a softmax between, and a normalisation over features.
fn attention() -> Graph {
    let mut g = Build::at(17);
    g.fed("x", DType::F32, "1, 5, 8");
    for name in ["q", "k", "v"] {
        layer(&mut g, "MatMul", "x", name, &[8, 8], 0, []);
    }
    g.node("Transpose", "k", "kt", [ints("perm", &[0, 2, 1])]);
    g.node("MatMul", "q kt", "scores", []);
    g.constant("root", Tensor::from_f32(&[], &[2.8]));
    g.node("Div", "scores root", "scaled", []);
    g.node("Softmax", "scaled", "weights", [("axis", Attr::Int(-1))]);
    g.node("MatMul", "weights v", "mixed", []);
    g.node("Add", "mixed x", "sum", []);
    g.weights("scale shift", &[8]);
    g.node("LayerNormalization", "sum scale shift", "n", [("axis", Attr::Int(-1)), ("epsilon", Attr::Float(1e-5))]);
    layer(&mut g, "MatMul", "n", "y", &[8, 4], 0, []);
    g.declare("y", DType::F32);
    g.outputs("y")
}

/// Rows of a table by token, positions and masks.
fn words() -> Graph {
    let mut g = Build::at(17);
    g.fed("ids", DType::I64, "1, 4");
    g.weights("table", &[10, 6]);
    g.node("Gather", "table ids", "e", [("axis", Attr::Int(0))]);
    layer(&mut g, "MatMul", "e", "m", &[6, 5], 0, []);
    g.constant("depth", Tensor::from_i64(&[], &[7]));
    g.constant("ends", Tensor::from_f32(&[2], &[0.0, 1.0]));
    g.node("OneHot", "ids depth ends", "h", [("axis", Attr::Int(-1))]);
    g.node("Concat", "m h", "j", [("axis", Attr::Int(-1))]);
    g.constant("k", Tensor::from_i64(&[1], &[3]));
    g.node("TopK", "j k", "best at", [("axis", Attr::Int(-1))]);
    g.node("ReduceMean", "best", "r", [ints("axes", &[1]), ("keepdims", Attr::Int(0))]);
    layer(&mut g, "MatMul", "r", "y", &[3, 2], 0, []);
    g.declare("y", DType::F32);
    g.outputs("y")
}

fn recurrent() -> Graph {
    let mut g = Build::at(14);
    g.fed("x", DType::F32, "5, 1, 3");
    layer(&mut g, "MatMul", "x", "e", &[3, 3], 0, []);
    g.weights("w", &[1, 16, 3]);
    g.weights("r", &[1, 16, 4]);
    g.weights("b", &[1, 32]);
    g.node("LSTM", "e w r b", "all last cell", [("hidden_size", Attr::Int(4)), ("direction", "forward".into())]);
    g.ints("first", &[0]);
    g.node("Squeeze", "last first", "s", []);
    layer(&mut g, "Gemm", "s", "y", &[4, 2], 2, []);
    g.declare("y", DType::F32);
    g.outputs("y")
}

fn pools() -> Graph {
    let mut g = Build::at(13);
    g.fed("x", DType::F32, "N, 2, 12, 12");
    layer(&mut g, "Conv", "x", "c", &[4, 2, 3, 3], 4, pads(1));
    g.node("MaxPool", "c", "m", [ints("kernel_shape", &[3, 3]), ints("strides", &[2, 2]), ints("pads", &[1, 1, 1, 1])]);
    let mean = [ints("kernel_shape", &[2, 2]), ("ceil_mode", Attr::Int(1)), ("count_include_pad", Attr::Int(1))];
    g.node("AveragePool", "m", "a", mean);
    g.node("LpPool", "a", "l", [ints("kernel_shape", &[2, 2]), ("p", Attr::Int(2))]);
    g.node("LRN", "l", "n", [("size", Attr::Int(3))]);
    g.weights("one zero", &[4]);
    g.node("InstanceNormalization", "n one zero", "i", []);
    g.node("GlobalMaxPool", "i", "g", []);
    g.node("Flatten", "g", "f", []);
    layer(&mut g, "Gemm", "f", "y", &[3, 4], 3, [("transB", Attr::Int(1))]);
    g.declare("y", DType::F32);
    g.outputs("y")
}

/// Weights that nodes make of constants.
fn constants() -> Graph {
    let mut g = Build::at(13);
    g.fed("x", DType::F32, "1, 2, 6, 6");
    g.weights("half", &[2, 2, 3, 3]);
    g.node("Concat", "half half", "w", [("axis", Attr::Int(0))]);
    g.node("Constant", "_", "factor", [("value_float", Attr::Float(0.5))]);
    g.node("Mul", "w factor", "scaled", []);
    g.node("Transpose", "scaled", "kernel", [ints("perm", &[0, 1, 3, 2])]);
    g.node("Conv", "x kernel", "c", pads(1));
    g.node("Constant", "_", "target", [ints("value_ints", &[1, -1])]);
    g.node("Reshape", "c target", "f", []);
    g.weights("flat", &[432]);
    g.ints("matrix", &[144, 3]);
    g.node("Reshape", "flat matrix", "v", []);
    g.node("MatMul", "f v", "y", []);
    g.declare("y", DType::F32);
    g.outputs("y")
}

/// An If that nothing decides.
fn branches() -> Graph {
    let branch = |op: &str| {
        let mut inner = Build::at(13);
        inner.node(op, "c", "out", []);
        let mut graph = inner.outputs("out");
        graph.inputs.extend(graph.find("c"));
        Body { graph, captures: vec![1] }
    };
    let mut g = Build::at(13);
    g.fed("x", DType::F32, "1, 2, 6, 6");
    g.fed("choice", DType::Bool, "");
    layer(&mut g, "Conv", "x", "c", &[3, 2, 3, 3], 3, []);
    g.node("If", "choice c", "i", [("then_branch", branch("Relu").into()), ("else_branch", branch("Sigmoid").into())]);
    layer(&mut g, "Conv", "i", "y", &[2, 3, 1, 1], 2, []);
    g.declare("i", DType::F32);
    g.declare("y", DType::F32);
    g.outputs("y")
}

/// Operators in the form of opset 7 to 9.
fn old() -> Graph {
    let mut g = Build::at(8);
    g.fed("x", DType::F32, "1, 2, 6, 6");
    layer(&mut g, "Conv", "x", "c", &[3, 2, 3, 3], 3, pads(1));
    g.node("Clip", "c", "r", [("min", Attr::Float(0.0)), ("max", Attr::Float(6.0))]);
    g.node("Upsample", "r", "u", [("scales", Attr::Floats(vec![1.0, 1.0, 2.0, 2.0])), ("mode", "nearest".into())]);
    g.node("Pad", "u", "p", [ints("pads", &[0, 0, 1, 1, 0, 0, 1, 1])]);
    g.node("Slice", "p", "s", [ints("axes", &[2, 3]), ints("starts", &[1, 1]), ints("ends", &[9, 9])]);
    g.node("Dropout", "s", "d", [("ratio", Attr::Float(0.5))]);
    g.node("ReduceMean", "d", "m", [ints("axes", &[2, 3])]);
    g.node("Squeeze", "m", "q", [ints("axes", &[2, 3])]);
    g.node("Softmax", "q", "y", []);
    g.declare("y", DType::F32);
    g.outputs("y")
}

/// Several outputs: labels, an input that is handed on, scores.
fn heads() -> Graph {
    let mut g = Build::at(13);
    g.fed("x", DType::F32, "N, 1, 8, 8");
    layer(&mut g, "Conv", "x", "c", &[4, 1, 3, 3], 4, []);
    g.node("GlobalAveragePool", "c", "p", []);
    g.node("Flatten", "p", "f", []);
    layer(&mut g, "Gemm", "f", "scores", &[4, 5], 5, []);
    g.node("Softmax", "scores", "chances", [("axis", Attr::Int(1))]);
    g.node("ArgMax", "scores", "label", [("axis", Attr::Int(1)), ("keepdims", Attr::Int(0))]);
    g.node("Identity", "x", "same", []);
    g.node("NonZero", "label", "found", []);
    for (name, dtype) in [("chances", DType::F32), ("label", DType::I64), ("same", DType::F32), ("found", DType::I64)] {
        g.declare(name, dtype);
    }
    g.outputs("chances label same found")
}
