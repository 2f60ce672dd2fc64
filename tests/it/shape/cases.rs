//! One operator call each: attributes, inputs, operator set.

use dfq_onnx::ir::{Attr, Attrs, DType, Tensor};

/// One input of a call.
#[derive(Clone)]
pub enum In {
    /// Floats above 1, as a graph input.
    X(&'static [usize]),
    /// Truth values, as a graph input.
    B(&'static [usize]),
    /// Zeros of an integer type, as a graph input.
    Z(DType, &'static [usize]),
    /// Integers, as an initializer of one axis.
    I(&'static [i64]),
    /// One integer, as an initializer without axes.
    S(i64),
    /// Floats, as an initializer of one axis.
    F(&'static [f32]),
    /// Left out.
    None,
}
use In::{B, F, I, S, X, Z};

/// One operator call.
pub struct Case {
    pub op: &'static str,
    pub opset: i64,
    pub inputs: Vec<In>,
    pub attrs: Attrs,
    pub outputs: usize,
}

fn case<const N: usize>(op: &'static str, opset: i64, inputs: &[In], attrs: [(&str, Attr); N]) -> Case {
    Case { op, opset, inputs: inputs.to_vec(), attrs: Attrs::from(attrs), outputs: 1 }
}

fn outputs(count: usize, case: Case) -> Case {
    Case { outputs: count, ..case }
}

fn is(values: &[i64]) -> Attr {
    Attr::Ints(values.to_vec())
}

fn int(value: i64) -> Attr {
    Attr::Int(value)
}

fn of(text: &str) -> Attr {
    Attr::from(text)
}

/// Returns every case.
pub fn cases() -> Vec<Case> {
    let mut all = elementwise();
    for family in
        [conv(), pool(), normalisation(), matmul(), reduce(), reshape(), extent(), select(), source(), quantize()]
    {
        all.extend(family);
    }
    all
}

const UNARY: &[(&str, i64)] = &[
    ("Abs", 13),
    ("Acos", 13),
    ("Acosh", 13),
    ("Asin", 13),
    ("Asinh", 13),
    ("Atan", 13),
    ("Atanh", 13),
    ("Ceil", 13),
    ("Celu", 12),
    ("Clip", 6),
    ("Clip", 13),
    ("Cos", 13),
    ("Cosh", 13),
    ("Elu", 13),
    ("Erf", 13),
    ("Exp", 13),
    ("Floor", 13),
    ("Gelu", 20),
    ("HardSigmoid", 13),
    ("HardSwish", 14),
    ("LeakyRelu", 13),
    ("Log", 13),
    ("Mish", 18),
    ("Neg", 13),
    ("Reciprocal", 13),
    ("Relu", 13),
    ("Round", 13),
    ("Selu", 13),
    ("Shrink", 13),
    ("Sigmoid", 13),
    ("Sign", 13),
    ("Sin", 13),
    ("Sinh", 13),
    ("Softplus", 13),
    ("Softsign", 13),
    ("Sqrt", 13),
    ("Tan", 13),
    ("Tanh", 13),
    ("ThresholdedRelu", 13),
    ("IsInf", 13),
    ("IsNaN", 13),
    ("Identity", 13),
    ("Softmax", 12),
    ("Softmax", 13),
    ("LogSoftmax", 13),
    ("Hardmax", 13),
    ("Dropout", 7),
    ("Trilu", 14),
    ("LpNormalization", 13),
];

fn elementwise() -> Vec<Case> {
    let mut all: Vec<Case> = UNARY.iter().map(|&(op, opset)| case(op, opset, &[X(&[2, 3, 4])], [])).collect();
    for op in ["Add", "Sub", "Mul", "Div", "Pow"] {
        all.push(case(op, 13, &[X(&[2, 3, 1]), X(&[3, 4])], []));
        all.push(case(op, 13, &[I(&[4, 9]), I(&[2])], []));
    }
    for op in ["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"] {
        all.push(case(op, 16, &[X(&[2, 1]), X(&[5])], []));
    }
    for op in ["And", "Or", "Xor"] {
        all.push(case(op, 13, &[B(&[2, 1]), B(&[5])], []));
    }
    for op in ["BitwiseAnd", "BitwiseOr", "BitwiseXor"] {
        all.push(case(op, 18, &[Z(DType::I32, &[2, 1]), Z(DType::I32, &[5])], []));
    }
    for op in ["Max", "Min", "Mean", "Sum"] {
        all.push(case(op, 13, &[X(&[2, 1, 1]), X(&[3, 1]), X(&[4])], []));
        all.push(case(op, 13, &[X(&[2, 3])], []));
    }
    all.extend([
        case("Mod", 13, &[Z(DType::I64, &[2, 3]), I(&[2])], []),
        case("BitShift", 11, &[Z(DType::U8, &[2, 3]), Z(DType::U8, &[3])], [("direction", of("LEFT"))]),
        case("BitwiseNot", 18, &[Z(DType::I32, &[2, 3])], []),
        case("Not", 13, &[B(&[2, 3])], []),
        case("Where", 16, &[B(&[2, 1]), X(&[3]), X(&[1])], []),
        case("PRelu", 16, &[X(&[2, 3, 4]), X(&[3, 1])], []),
        case("CumSum", 14, &[X(&[2, 3]), S(1)], []),
        outputs(2, case("Dropout", 13, &[X(&[2, 3])], [])),
        outputs(2, case("Dropout", 10, &[X(&[2, 3])], [])),
    ]);
    all
}

fn conv() -> Vec<Case> {
    let (x, w) = (X(&[2, 4, 9, 8]), X(&[6, 4, 3, 3]));
    let both = [x.clone(), w.clone()];
    let t = [X(&[2, 4, 5, 6]), X(&[4, 3, 3, 2])];
    vec![
        case("Conv", 11, &both, []),
        case("Conv", 11, &[x.clone(), w.clone(), X(&[6])], [("strides", is(&[2, 3])), ("pads", is(&[1, 0, 2, 1]))]),
        case("Conv", 11, &both, [("dilations", is(&[2, 2])), ("kernel_shape", is(&[3, 3]))]),
        case("Conv", 11, &both, [("auto_pad", of("SAME_UPPER")), ("strides", is(&[2, 2]))]),
        case("Conv", 11, &both, [("auto_pad", of("SAME_LOWER"))]),
        case("Conv", 11, &both, [("auto_pad", of("VALID")), ("strides", is(&[3, 3]))]),
        case("Conv", 11, &[x, X(&[8, 1, 3, 3])], [("group", int(4)), ("pads", is(&[1, 1, 1, 1]))]),
        case("Conv", 11, &[X(&[2, 4, 9]), X(&[6, 4, 2])], []),
        case("ConvTranspose", 11, &t, []),
        case(
            "ConvTranspose",
            11,
            &t,
            [("strides", is(&[2, 3])), ("pads", is(&[1, 0, 1, 1])), ("output_padding", is(&[1, 0]))],
        ),
        case("ConvTranspose", 11, &t, [("group", int(2)), ("dilations", is(&[2, 1]))]),
        case("ConvTranspose", 11, &t, [("strides", is(&[2, 2])), ("auto_pad", of("SAME_UPPER"))]),
        case("ConvTranspose", 11, &t, [("strides", is(&[2, 2])), ("output_shape", is(&[12, 13]))]),
    ]
}

fn pool() -> Vec<Case> {
    let x = [X(&[2, 3, 8, 7])];
    let mut all = Vec::new();
    for op in ["MaxPool", "AveragePool", "LpPool"] {
        let opset = 22;
        let k = ("kernel_shape", is(&[3, 2]));
        all.extend([
            case(op, opset, &x, [k.clone()]),
            case(op, opset, &x, [k.clone(), ("strides", is(&[2, 2])), ("pads", is(&[1, 0, 1, 1]))]),
            case(op, opset, &x, [k.clone(), ("strides", is(&[2, 2])), ("ceil_mode", int(1))]),
            case(
                op,
                opset,
                &x,
                [k.clone(), ("strides", is(&[3, 3])), ("ceil_mode", int(1)), ("pads", is(&[1, 1, 1, 1]))],
            ),
            case(op, opset, &x, [("kernel_shape", is(&[1, 1])), ("strides", is(&[3, 4])), ("ceil_mode", int(1))]),
            case(op, opset, &x, [k.clone(), ("dilations", is(&[2, 3]))]),
            case(op, opset, &x, [k.clone(), ("strides", is(&[2, 2])), ("auto_pad", of("SAME_UPPER"))]),
            case(op, opset, &x, [k, ("strides", is(&[2, 2])), ("auto_pad", of("VALID"))]),
        ]);
    }
    all.push(outputs(2, case("MaxPool", 12, &x, [("kernel_shape", is(&[2, 2]))])));
    all.push(case("AveragePool", 7, &x, [("kernel_shape", is(&[8, 7]))]));
    for op in ["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"] {
        all.push(case(op, 13, &x, []));
    }
    all
}

fn normalisation() -> Vec<Case> {
    let x = X(&[2, 4, 3, 3]);
    let c = X(&[4]);
    let batch = [x.clone(), c.clone(), c.clone(), c.clone(), c.clone()];
    vec![
        case("BatchNormalization", 9, &batch, []),
        case("BatchNormalization", 15, &batch, []),
        outputs(3, case("BatchNormalization", 15, &batch, [("training_mode", int(1))])),
        case("InstanceNormalization", 6, &[x.clone(), c.clone(), c.clone()], []),
        case("GroupNormalization", 21, &[x.clone(), c.clone(), c], [("num_groups", int(2))]),
        outputs(3, case("LayerNormalization", 17, &[X(&[2, 3, 4]), X(&[3, 4])], [("axis", int(1))])),
        case("LayerNormalization", 17, &[X(&[2, 3, 4]), X(&[4]), X(&[4])], []),
        case("MeanVarianceNormalization", 13, std::slice::from_ref(&x), []),
        case("LRN", 13, &[x], [("size", int(3))]),
    ]
}

fn matmul() -> Vec<Case> {
    vec![
        case("MatMul", 13, &[X(&[2, 3]), X(&[3, 4])], []),
        case("MatMul", 13, &[X(&[3]), X(&[5, 3, 4])], []),
        case("MatMul", 13, &[X(&[5, 2, 3]), X(&[3])], []),
        case("MatMul", 13, &[X(&[3]), X(&[3])], []),
        case("MatMul", 13, &[X(&[2, 1, 2, 3]), X(&[5, 3, 4])], []),
        case("Gemm", 13, &[X(&[2, 3]), X(&[3, 4]), X(&[4])], []),
        case("Gemm", 13, &[X(&[3, 2]), X(&[4, 3])], [("transA", int(1)), ("transB", int(1))]),
        case("Gemm", 7, &[X(&[2, 3]), X(&[3, 4]), X(&[2, 1])], []),
    ]
}

const REDUCE: &[&str] = &[
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
];

fn reduce() -> Vec<Case> {
    let x = X(&[2, 3, 4]);
    let mut all = Vec::new();
    for op in REDUCE {
        all.extend([
            case(op, 18, &[x.clone(), I(&[-1, 0])], [("keepdims", int(0))]),
            case(op, 18, std::slice::from_ref(&x), []),
            case(op, 18, std::slice::from_ref(&x), [("noop_with_empty_axes", int(1))]),
            case(op, 11, std::slice::from_ref(&x), [("axes", is(&[1]))]),
            case(op, 11, std::slice::from_ref(&x), [("keepdims", int(0))]),
        ]);
    }
    for op in ["ArgMax", "ArgMin"] {
        all.push(case(op, 13, std::slice::from_ref(&x), []));
        all.push(case(op, 13, std::slice::from_ref(&x), [("axis", int(-1)), ("keepdims", int(0))]));
    }
    all.push(case("ReduceSum", 13, &[x.clone(), I(&[1])], []));
    all.push(outputs(2, case("TopK", 11, &[x.clone(), I(&[2])], [("axis", int(1))])));
    all.push(outputs(2, case("TopK", 9, &[x], [("k", int(3))])));
    all
}

fn reshape() -> Vec<Case> {
    let x = X(&[2, 3, 4]);
    vec![
        case("Reshape", 13, &[x.clone(), I(&[0, -1])], []),
        case("Reshape", 13, &[x.clone(), I(&[4, 3, 2])], []),
        case("Reshape", 14, &[X(&[0, 3]), I(&[3, 0])], [("allowzero", int(1))]),
        case("Flatten", 13, std::slice::from_ref(&x), []),
        case("Flatten", 13, std::slice::from_ref(&x), [("axis", int(-1))]),
        case("Flatten", 13, std::slice::from_ref(&x), [("axis", int(0))]),
        case("Flatten", 13, std::slice::from_ref(&x), [("axis", int(3))]),
        case("Squeeze", 13, &[X(&[1, 3, 1]), I(&[-1])], []),
        case("Squeeze", 11, &[X(&[1, 3, 1])], [("axes", is(&[0]))]),
        case("Squeeze", 13, &[X(&[1, 3, 1])], []),
        case("Unsqueeze", 13, &[X(&[3, 4]), I(&[-1, 0])], []),
        case("Unsqueeze", 11, &[X(&[3, 4])], [("axes", is(&[1, 2]))]),
        case("Transpose", 13, std::slice::from_ref(&x), []),
        case("Transpose", 13, &[x], [("perm", is(&[1, 2, 0]))]),
        case("DepthToSpace", 13, &[X(&[2, 8, 3, 5])], [("blocksize", int(2))]),
        case("SpaceToDepth", 13, &[X(&[2, 3, 6, 4])], [("blocksize", int(2))]),
    ]
}

fn extent() -> Vec<Case> {
    let x = X(&[2, 3, 8, 7]);
    const MAX: i64 = i64::MAX;
    vec![
        case("Pad", 13, &[x.clone(), I(&[0, 1, 2, -1, 0, 0, 3, 4])], []),
        case("Pad", 18, &[x.clone(), I(&[1, 2, 3, 4]), In::None, I(&[-1, 1])], []),
        case("Pad", 2, std::slice::from_ref(&x), [("pads", is(&[0, 0, 1, 1, 0, 0, 1, 1]))]),
        case(
            "Slice",
            9,
            std::slice::from_ref(&x),
            [("starts", is(&[1, -3])), ("ends", is(&[100, -1])), ("axes", is(&[2, 3]))],
        ),
        case("Slice", 9, std::slice::from_ref(&x), [("starts", is(&[1])), ("ends", is(&[2]))]),
        case("Slice", 13, &[x.clone(), I(&[1, 0]), I(&[2, MAX])], []),
        case("Slice", 13, &[x.clone(), I(&[0, 0]), I(&[MAX, MAX]), I(&[2, 3]), I(&[2, 3])], []),
        case("Slice", 13, &[x.clone(), I(&[-1]), I(&[-MAX]), I(&[-1]), I(&[-1])], []),
        case("Slice", 13, &[x.clone(), I(&[5]), I(&[2]), I(&[2])], []),
        case("Slice", 13, &[x.clone(), I(&[100]), I(&[1]), I(&[2]), I(&[-3])], []),
        case("Expand", 13, &[X(&[3, 1]), I(&[2, 1, 4])], []),
        case("Expand", 13, &[X(&[3, 4]), I(&[1])], []),
        case("Tile", 13, &[X(&[2, 3]), I(&[3, 1])], []),
        case("Resize", 10, &[x.clone(), F(&[1.0, 1.0, 2.0, 1.5])], []),
        case("Resize", 13, &[x.clone(), In::None, F(&[1.0, 1.0, 0.6, 1.7])], []),
        case("Resize", 13, &[x.clone(), In::None, In::None, I(&[2, 3, 5, 9])], []),
        case("Resize", 18, &[x.clone(), In::None, F(&[2.0, 2.0])], [("axes", is(&[2, 3]))]),
        case("Upsample", 9, &[x.clone(), F(&[1.0, 1.0, 2.0, 2.0])], []),
        case("Upsample", 7, &[x], [("scales", Attr::Floats(vec![1.0, 1.0, 2.0, 3.0]))]),
    ]
}

fn select() -> Vec<Case> {
    let x = X(&[2, 7, 4]);
    vec![
        case("Concat", 13, &[x.clone(), X(&[2, 1, 4])], [("axis", int(-2))]),
        case("Concat", 13, &[I(&[1]), I(&[2, 3])], [("axis", int(0))]),
        outputs(2, case("Split", 13, &[x.clone(), I(&[3, 4])], [("axis", int(1))])),
        outputs(2, case("Split", 11, std::slice::from_ref(&x), [("axis", int(-1))])),
        outputs(2, case("Split", 11, std::slice::from_ref(&x), [("axis", int(1)), ("split", is(&[2, 5]))])),
        outputs(3, case("Split", 18, std::slice::from_ref(&x), [("axis", int(1)), ("num_outputs", int(3))])),
        case("Gather", 13, &[x.clone(), S(1)], [("axis", int(1))]),
        case("Gather", 13, &[x.clone(), I(&[1, -1])], [("axis", int(-1))]),
        case("Gather", 13, &[I(&[5, 6, 7]), S(-1)], []),
        case("GatherElements", 13, &[x.clone(), Z(DType::I64, &[1, 3, 4])], [("axis", int(1))]),
        case("GatherND", 13, &[x.clone(), Z(DType::I64, &[2, 5, 1])], [("batch_dims", int(1))]),
        case("GatherND", 13, &[x.clone(), Z(DType::I64, &[5, 2])], []),
        case("ScatterElements", 13, &[x.clone(), Z(DType::I64, &[1, 1, 1]), X(&[1, 1, 1])], []),
        case("ScatterND", 13, &[x.clone(), Z(DType::I64, &[1, 1]), X(&[1, 7, 4])], []),
        case("NonZero", 13, &[x], []),
        case("OneHot", 11, &[Z(DType::I64, &[2, 3]), S(5), F(&[0.0, 1.0])], [("axis", int(1))]),
    ]
}

fn source() -> Vec<Case> {
    let x = X(&[2, 3, 4]);
    let cast = |to: DType| int(i64::from(to.code()));
    vec![
        case("Constant", 13, &[], [("value", Attr::Tensor(Tensor::from_f32(&[2, 1], &[1.0, 2.0])))]),
        case("Constant", 13, &[], [("value_float", Attr::Float(1.0))]),
        case("Constant", 13, &[], [("value_floats", Attr::Floats(vec![1.0, 2.0]))]),
        case("Constant", 13, &[], [("value_int", int(1))]),
        case("Constant", 13, &[], [("value_ints", is(&[1, 2, 3]))]),
        case("ConstantOfShape", 9, &[I(&[2, 3])], []),
        case("ConstantOfShape", 9, &[I(&[2])], [("value", Attr::Tensor(Tensor::from_i64(&[1], &[7])))]),
        case("Shape", 13, std::slice::from_ref(&x), []),
        case("Shape", 15, std::slice::from_ref(&x), [("start", int(-2)), ("end", int(10))]),
        case("Size", 13, std::slice::from_ref(&x), []),
        case("Range", 11, &[S(2), S(9), S(3)], []),
        case("Range", 11, &[S(9), S(2), S(-3)], []),
        case("Range", 11, &[S(2), S(9), S(-3)], []),
        case("EyeLike", 9, &[X(&[2, 3])], [("dtype", cast(DType::F64))]),
        case("EyeLike", 9, &[X(&[2, 3])], []),
        case("Cast", 13, std::slice::from_ref(&x), [("to", cast(DType::I32))]),
        case("CastLike", 15, &[x, S(1)], []),
    ]
}

fn quantize() -> Vec<Case> {
    let x = X(&[2, 3]);
    let scale = X(&[3]);
    vec![
        case("QuantizeLinear", 13, &[x.clone(), scale.clone()], [("axis", int(1))]),
        case("QuantizeLinear", 13, &[x.clone(), scale.clone(), Z(DType::I8, &[3])], [("axis", int(1))]),
        case(
            "QuantizeLinear",
            21,
            &[x.clone(), scale.clone()],
            [("axis", int(1)), ("output_dtype", int(i64::from(DType::I8.code())))],
        ),
        case("DequantizeLinear", 13, &[Z(DType::I8, &[2, 3]), scale], [("axis", int(1))]),
        outputs(3, case("DynamicQuantizeLinear", 11, &[x], [])),
    ]
}
