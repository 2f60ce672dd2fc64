//! One small Q/DQ graph per rule: what is expected of its node `y`, and what ONNX Runtime makes of it.

use dfq_onnx::audit::{Kernels, Runs, audit};
use dfq_onnx::ir::{Attr, DType, Graph, ValueId};
use dfq_onnx::plan::Target;

use super::wrong;
use crate::support::qdq::{I8, LOW, POSITIVE, Qdq, ScalarGrid, U8};

/// What the rules are tried on: name, what becomes of `y`, the kind of reason, the graph.
type Case = (&'static str, Runs, &'static str, fn(i64) -> Graph);

const IMAGE: &[usize] = &[1, 4, 8, 8];

fn conv(n: &mut Qdq, inputs: &[ValueId]) -> ValueId {
    n.node("y", "Conv", inputs, [("pads", Attr::Ints(vec![1; 4])), ("kernel_shape", Attr::Ints(vec![3, 3]))])
}

/// `DQ(x) -> y -> Q -> DQ`, the node built by `build`.
fn between(
    opset: i64,
    shape: &[usize],
    x: ScalarGrid,
    y: ScalarGrid,
    build: fn(&mut Qdq, ValueId) -> ValueId,
) -> Graph {
    let mut n = Qdq::new(opset);
    let image = n.input("x", shape);
    let x = n.pair(image, x);
    let result = build(&mut n, x);
    let out = n.pair(result, y);
    n.finish(&[out])
}

fn plain_conv(n: &mut Qdq, x: ValueId) -> ValueId {
    let w = n.weight(&[8, 4, 3, 3], DType::I8);
    conv(n, &[x, w])
}

fn conv_with_bias(n: &mut Qdq, x: ValueId, factor: f32) -> ValueId {
    let w = n.weight(&[8, 4, 3, 3], DType::I8);
    let b = n.bias(8, U8, factor);
    conv(n, &[x, w, b])
}

fn relu_behind(n: &mut Qdq, x: ValueId) -> ValueId {
    let y = plain_conv(n, x);
    n.node("relu", "Relu", &[y], [])
}

fn relu6_behind(n: &mut Qdq, x: ValueId) -> ValueId {
    let y = plain_conv(n, x);
    let (lo, hi) = (n.scalar(0.0), n.scalar(6.0));
    n.node("clip", "Clip", &[y, lo, hi], [])
}

fn sum(opset: i64, quantizes_second: bool, grids: (ScalarGrid, ScalarGrid, ScalarGrid)) -> Graph {
    let mut n = Qdq::new(opset);
    let (a, b) = (n.input("a", IMAGE), n.input("b", IMAGE));
    let a = n.pair(a, grids.0);
    let b = if quantizes_second { n.pair(b, grids.1) } else { b };
    let y = n.node("y", "Add", &[a, b], []);
    let out = n.pair(y, grids.2);
    n.finish(&[out])
}

fn join(opset: i64, second: ScalarGrid) -> Graph {
    let mut n = Qdq::new(opset);
    let (a, b) = (n.input("a", IMAGE), n.input("b", IMAGE));
    let (a, b) = (n.pair(a, U8), n.pair(b, second));
    let y = n.node("y", "Concat", &[a, b], [("axis", Attr::Int(1))]);
    let out = n.pair(y, U8);
    n.finish(&[out])
}

fn unary(opset: i64, op: &'static str, grid: ScalarGrid) -> Graph {
    let mut n = Qdq::new(opset);
    let image = n.input("x", IMAGE);
    let x = n.pair(image, U8);
    let y = n.node("y", op, &[x], []);
    let out = n.pair(y, grid);
    n.finish(&[out])
}

fn pool(n: &mut Qdq, op: &str, x: ValueId) -> ValueId {
    n.node("y", op, &[x], [("kernel_shape", Attr::Ints(vec![2, 2])), ("strides", Attr::Ints(vec![2, 2]))])
}

/// Adds a Gemm of 6 outputs on `x: [1, 16]`.
fn gemm(n: &mut Qdq, x: ValueId, bias: Option<ValueId>) -> ValueId {
    let w = n.weight(&[6, 16], DType::I8);
    let inputs: Vec<ValueId> = [x, w].into_iter().chain(bias).collect();
    n.node("y", "Gemm", &inputs, [("transB", Attr::Int(1))])
}

const CASES: &[Case] = &[
    ("conv", Runs::Integer, "", |o| between(o, IMAGE, U8, U8, plain_conv)),
    ("conv, int32 bias", Runs::Integer, "", |o| between(o, IMAGE, U8, U8, |n, x| conv_with_bias(n, x, 1.0))),
    ("conv, bias scale ten times too large", Runs::Float, "bias_grid", |o| {
        between(o, IMAGE, U8, U8, |n, x| conv_with_bias(n, x, 10.0))
    }),
    ("conv, float bias", Runs::Integer, "", |o| {
        between(o, IMAGE, U8, U8, |n, x| {
            let (w, b) = (n.weight(&[8, 4, 3, 3], DType::I8), n.constant(&[8]));
            conv(n, &[x, w, b])
        })
    }),
    ("conv, float weight", Runs::Integer, "", |o| {
        between(o, IMAGE, U8, U8, |n, x| {
            let w = n.constant(&[8, 4, 3, 3]);
            conv(n, &[x, w])
        })
    }),
    ("conv, uint8 weight", Runs::Integer, "", |o| {
        between(o, IMAGE, U8, U8, |n, x| {
            let w = n.weight(&[8, 4, 3, 3], DType::U8);
            conv(n, &[x, w])
        })
    }),
    ("conv, int8 throughout", Runs::Integer, "", |o| between(o, IMAGE, I8, I8, plain_conv)),
    ("conv, int8 in and uint8 out", Runs::Integer, "", |o| between(o, IMAGE, I8, U8, plain_conv)),
    ("conv, int8 that two nodes read", Runs::Float, "signed_activation", |o| {
        let mut n = Qdq::new(o);
        let image = n.input("x", IMAGE);
        let x = n.pair(image, I8);
        let y = plain_conv(&mut n, x);
        let out = n.pair(y, U8);
        let other = n.node("other", "Abs", &[x], []);
        n.finish(&[out, other])
    }),
    ("conv, float result", Runs::Float, "float_result", |o| {
        let mut n = Qdq::new(o);
        let image = n.input("x", IMAGE);
        let x = n.pair(image, U8);
        let y = plain_conv(&mut n, x);
        let out = n.node("out", "Abs", &[y], []);
        n.finish(&[out])
    }),
    ("conv, graph output", Runs::Float, "graph_output", |o| {
        let mut n = Qdq::new(o);
        let image = n.input("x", IMAGE);
        let x = n.pair(image, U8);
        let y = plain_conv(&mut n, x);
        n.finish(&[y])
    }),
    ("conv, result read in float too", Runs::Float, "branched_result", |o| {
        let mut n = Qdq::new(o);
        let image = n.input("x", IMAGE);
        let x = n.pair(image, U8);
        let y = plain_conv(&mut n, x);
        let (out, other) = (n.pair(y, U8), n.node("other", "Abs", &[y], []));
        n.finish(&[out, other])
    }),
    ("conv, result quantized twice", Runs::Float, "branched_result", |o| {
        let mut n = Qdq::new(o);
        let image = n.input("x", IMAGE);
        let x = n.pair(image, U8);
        let y = plain_conv(&mut n, x);
        let (a, b) = (n.pair(y, U8), n.pair(y, U8));
        n.finish(&[a, b])
    }),
    ("conv, only the weight", Runs::Float, "weight_only", |o| {
        let mut n = Qdq::new(o);
        let image = n.input("x", IMAGE);
        let y = plain_conv(&mut n, image);
        let out = n.pair(y, U8);
        n.finish(&[out])
    }),
    ("conv, relu and uint8 from 0", Runs::Integer, "", |o| between(o, IMAGE, U8, POSITIVE, relu_behind)),
    ("conv, relu and int8 from -128", Runs::Integer, "", |o| between(o, IMAGE, I8, LOW, relu_behind)),
    ("conv, relu and symmetric int8", Runs::Float, "activation_stays", |o| between(o, IMAGE, I8, I8, relu_behind)),
    ("conv, relu6 within the grid", Runs::Integer, "", |o| between(o, IMAGE, U8, POSITIVE, relu6_behind)),
    ("conv, relu6 inside a wider grid", Runs::Float, "activation_stays", |o| {
        between(o, IMAGE, U8, ScalarGrid { scale: 0.05, ..POSITIVE }, relu6_behind)
    }),
    ("conv, pool before the quantizer", Runs::Integer, "", |o| {
        between(o, IMAGE, U8, POSITIVE, |n, x| {
            let y = plain_conv(n, x);
            n.node("pool", "MaxPool", &[y], [("kernel_shape", Attr::Ints(vec![2, 2]))])
        })
    }),
    ("transposed conv", Runs::Float, "no_integer_kernel", |o| {
        between(o, IMAGE, U8, U8, |n, x| {
            let w = n.weight(&[4, 4, 3, 3], DType::I8);
            n.node("y", "ConvTranspose", &[x, w], [])
        })
    }),
    ("add", Runs::Integer, "", |o| sum(o, true, (U8, POSITIVE, U8))),
    ("add, one float side", Runs::Float, "float_operand", |o| sum(o, false, (U8, U8, U8))),
    ("add, int8 throughout", Runs::Integer, "", |o| sum(o, true, (I8, I8, I8))),
    ("add of a constant", Runs::Float, "float_operand", |o| {
        between(o, IMAGE, U8, U8, |n, x| {
            let c = n.constant(&[1, 4, 1, 1]);
            n.node("y", "Add", &[x, c], [])
        })
    }),
    ("mul by a stored constant", Runs::Integer, "", |o| {
        between(o, IMAGE, U8, U8, |n, x| {
            let c = n.constant(&[1, 4, 1, 1]);
            let c = n.pair(c, U8);
            n.node("y", "Mul", &[x, c], [])
        })
    }),
    ("concat", Runs::Integer, "", |o| join(o, U8)),
    ("concat of two grids", Runs::Integer, "", |o| join(o, POSITIVE)),
    ("sigmoid", Runs::Integer, "", |o| unary(o, "Sigmoid", POSITIVE)),
    ("leaky relu", Runs::Integer, "", |o| unary(o, "LeakyRelu", U8)),
    ("softmax", Runs::Integer, "", |o| unary(o, "Softmax", POSITIVE)),
    ("mean over the image", Runs::Integer, "", |o| unary(o, "GlobalAveragePool", U8)),
    ("hard swish", Runs::Float, "no_integer_kernel", |o| unary(o, "HardSwish", U8)),
    ("tanh", Runs::Float, "no_integer_kernel", |o| unary(o, "Tanh", U8)),
    ("relu between pairs", Runs::Absorbed, "", |o| unary(o, "Relu", POSITIVE)),
    ("relu before symmetric int8", Runs::Float, "activation_stays", |o| unary(o, "Relu", I8)),
    ("average pool", Runs::Integer, "", |o| between(o, IMAGE, U8, U8, |n, x| pool(n, "AveragePool", x))),
    ("max pool", Runs::Integer, "", |o| between(o, IMAGE, U8, U8, |n, x| pool(n, "MaxPool", x))),
    ("max pool of two grids", Runs::Float, "different_grids", |o| {
        between(o, IMAGE, U8, POSITIVE, |n, x| pool(n, "MaxPool", x))
    }),
    ("max pool without quantized result", Runs::Integer, "", |o| {
        let mut n = Qdq::new(o);
        let image = n.input("x", IMAGE);
        let x = n.pair(image, U8);
        let y = pool(&mut n, "MaxPool", x);
        let out = n.node("out", "Abs", &[y], []);
        n.finish(&[out])
    }),
    ("transpose", Runs::Integer, "", |o| {
        between(o, IMAGE, U8, U8, |n, x| n.node("y", "Transpose", &[x], [("perm", Attr::Ints(vec![0, 2, 3, 1]))]))
    }),
    ("slice", Runs::Integer, "", |o| {
        between(o, IMAGE, U8, U8, |n, x| {
            let (from, to, axis) = (n.ints(&[1]), n.ints(&[3]), n.ints(&[1]));
            n.node("y", "Slice", &[x, from, to, axis], [])
        })
    }),
    ("nearest resize", Runs::Integer, "", |o| {
        between(o, IMAGE, U8, U8, |n, x| {
            let none = n.0.add_constant("none", dfq_onnx::ir::Tensor::from_f32(&[0], &[]));
            let scales = n.0.add_constant("scales", dfq_onnx::ir::Tensor::from_f32(&[4], &[1.0, 1.0, 2.0, 2.0]));
            n.node("y", "Resize", &[x, none, scales], [("mode", Attr::from("nearest"))])
        })
    }),
    ("depth to space", Runs::Integer, "", |o| {
        between(o, IMAGE, U8, U8, |n, x| n.node("y", "DepthToSpace", &[x], [("blocksize", Attr::Int(2))]))
    }),
    ("space to depth", Runs::Float, "no_integer_kernel", |o| {
        between(o, IMAGE, U8, U8, |n, x| n.node("y", "SpaceToDepth", &[x], [("blocksize", Attr::Int(2))]))
    }),
    ("reshape", Runs::Integer, "", |o| {
        between(o, IMAGE, U8, U8, |n, x| {
            let shape = n.ints(&[1, 256]);
            n.node("y", "Reshape", &[x, shape], [])
        })
    }),
    ("reshape before a gemm", Runs::Integer, "", |o| {
        let mut n = Qdq::new(o);
        let image = n.input("x", &[1, 4, 2, 2]);
        let x = n.pair(image, U8);
        let shape = n.ints(&[1, 16]);
        let x = n.node("flat", "Reshape", &[x, shape], []);
        let y = gemm(&mut n, x, None);
        n.finish(&[y])
    }),
    ("largest value", Runs::Integer, "", |o| {
        between(o, IMAGE, U8, U8, |n, x| n.node("y", "ReduceMax", &[x], [("keepdims", Attr::Int(1))]))
    }),
    ("mean of an axis", Runs::Float, "no_integer_kernel", |o| {
        between(o, IMAGE, U8, U8, |n, x| n.node("y", "ReduceMean", &[x], [("keepdims", Attr::Int(1))]))
    }),
    ("gather", Runs::Integer, "", |o| {
        between(o, IMAGE, U8, U8, |n, x| {
            let at = n.ints(&[0, 2]);
            n.node("y", "Gather", &[x, at], [("axis", Attr::Int(1))])
        })
    }),
    ("where", Runs::Integer, "", |o| {
        between(o, IMAGE, U8, U8, |n, x| {
            let (zero, other) = (n.scalar(0.0), n.constant(IMAGE));
            let condition = n.node("condition", "Greater", &[x, zero], []);
            let other = n.pair(other, U8);
            n.node("y", "Where", &[condition, x, other], [])
        })
    }),
    ("split", Runs::Integer, "", |o| {
        let mut n = Qdq::new(o);
        let image = n.input("x", IMAGE);
        let x = n.pair(image, U8);
        let sizes = n.ints(&[2, 2]);
        let y = n.node("y", "Split", &[x, sizes], [("axis", Attr::Int(1))]);
        let z = n.0.add_value("z");
        n.0.nodes.last_mut().unwrap().outputs.push(Some(z));
        let outputs = [n.pair(y, U8), n.pair(z, U8)];
        n.finish(&outputs)
    }),
    ("pad", Runs::Float, "no_integer_kernel", |o| {
        between(o, IMAGE, U8, U8, |n, x| {
            let pads = n.ints(&[0, 0, 1, 1, 0, 0, 1, 1]);
            n.node("y", "Pad", &[x, pads], [])
        })
    }),
    ("gemm", Runs::Integer, "", |o| between(o, &[1, 16], U8, U8, |n, x| gemm(n, x, None))),
    ("gemm, float result", Runs::Integer, "", |o| {
        let mut n = Qdq::new(o);
        let x = n.input("x", &[1, 16]);
        let x = n.pair(x, U8);
        let b = n.bias(6, U8, 1.0);
        let y = gemm(&mut n, x, Some(b));
        n.finish(&[y])
    }),
    ("gemm, float bias and result", Runs::Float, "float_bias", |o| {
        let mut n = Qdq::new(o);
        let x = n.input("x", &[1, 16]);
        let x = n.pair(x, U8);
        let b = n.constant(&[6]);
        let y = gemm(&mut n, x, Some(b));
        n.finish(&[y])
    }),
    ("gemm, relu and float result", Runs::Float, "float_result", |o| {
        let mut n = Qdq::new(o);
        let x = n.input("x", &[1, 16]);
        let x = n.pair(x, U8);
        let y = gemm(&mut n, x, None);
        let y = n.node("relu", "Relu", &[y], []);
        let out = n.node("out", "Abs", &[y], []);
        n.finish(&[out])
    }),
    ("gemm behind an unquantized flatten", Runs::Float, "weight_only", |o| {
        let mut n = Qdq::new(o);
        let image = n.input("x", &[1, 4, 2, 2]);
        let x = n.pair(image, U8);
        let x = n.node("flat", "Flatten", &[x], []);
        let y = gemm(&mut n, x, None);
        n.finish(&[y])
    }),
    ("matmul, float result", Runs::Integer, "", |o| {
        let mut n = Qdq::new(o);
        let (a, b) = (n.input("a", &[4, 16]), n.input("b", &[16, 4]));
        let (a, b) = (n.pair(a, U8), n.pair(b, U8));
        let y = n.node("y", "MatMul", &[a, b], []);
        n.finish(&[y])
    }),
    ("matmul", Runs::Integer, "", |o| between(o, &[4, 4], U8, U8, |n, x| n.node("y", "MatMul", &[x, x], []))),
    ("matmul, only the weight", Runs::Float, "weight_only", |o| {
        let mut n = Qdq::new(o);
        let x = n.input("x", &[4, 16]);
        let w = n.constant(&[16, 6]);
        let w = n.pair(w, U8);
        let y = n.node("y", "MatMul", &[x, w], []);
        n.finish(&[y])
    }),
    ("argmax", Runs::Integer, "", |o| {
        let mut n = Qdq::new(o);
        let x = n.input("x", &[4, 16]);
        let x = n.pair(x, U8);
        let y = n.node("y", "ArgMax", &[x], [("axis", Attr::Int(1))]);
        n.0.value_mut(y).dtype = Some(DType::I64);
        n.finish(&[y])
    }),
];

/// Graphs that need opset 21: packed weights.
const PACKED: &[Case] = &[
    ("conv, int4 weight", Runs::Float, "type_without_kernel", |o| {
        between(o, IMAGE, U8, U8, |n, x| {
            let w = n.weight(&[8, 4, 3, 3], DType::I4);
            conv(n, &[x, w])
        })
    }),
    ("gemm, int4 weight", Runs::Float, "type_without_kernel", |o| {
        between(o, &[1, 16], U8, U8, |n, x| {
            let w = n.weight(&[6, 16], DType::I4);
            n.node("y", "Gemm", &[x, w], [("transB", Attr::Int(1))])
        })
    }),
];

#[test]
fn every_rule_says_what_onnx_runtime_does() {
    let mut failed = Vec::new();
    let cases = [(13, CASES), (17, CASES), (21, CASES), (21, PACKED), (23, CASES), (24, CASES)];
    for (opset, (name, runs, reason, build)) in cases.iter().flat_map(|(o, cases)| cases.iter().map(move |c| (*o, c))) {
        if *name == "hard swish" && opset < 14 {
            continue;
        }
        let graph = build(opset);
        let found = audit(&graph, Target::OrtCpu).unwrap();
        let y = found.nodes.iter().find(|node| node.output == "y").unwrap();
        let kind = serde_json::to_value(&y.reason).unwrap()["kind"].as_str().unwrap_or("").to_owned();
        if y.runs != *runs || kind != *reason {
            failed.push(format!("opset {opset}, {name}: {:?} because of \"{kind}\"", y.runs));
        }
        failed.extend(wrong(&graph, Target::OrtCpu).0.into_iter().map(|w| format!("opset {opset}, {name}: {w}")));
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn every_row_of_the_rules_of_onnx_runtime_has_a_case() {
    let graphs = CASES.iter().map(|case| case.3(21));
    let seen: Vec<String> = graphs.flat_map(|g| g.nodes.into_iter().map(|n| n.op_type)).collect();
    let rows = Kernels::OnnxRuntimeCpu.rules();
    let missing: Vec<_> = rows.iter().filter(|row| !row.ops.iter().any(|op| seen.iter().any(|s| s == op))).collect();
    let missing: Vec<_> = missing.iter().map(|row| row.ops).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
