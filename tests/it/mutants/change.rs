//! One change of a graph, of a kind that damaged or hostile files show.

use dfq_onnx::ir::{Attr, DType, Dim, Graph, Tensor, ValueId};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Integers at which arithmetic goes wrong.
const INTS: &[i64] = &[
    0,
    1,
    -1,
    2,
    3,
    7,
    -2,
    64,
    1 << 15,
    100_003,
    1 << 30,
    1 << 31,
    1 << 32,
    1 << 40,
    1 << 61,
    1 << 62,
    i64::MAX,
    i64::MIN,
    i64::MIN + 1,
];
const FLOATS: &[f32] =
    &[0.0, -0.0, 1.0, -1.0, 0.5, 3.0, 1e-30, 1e9, 1e30, f32::MAX, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
const DTYPES: &[DType] = &[
    DType::F32,
    DType::F16,
    DType::F64,
    DType::BF16,
    DType::I64,
    DType::I32,
    DType::I8,
    DType::U8,
    DType::Bool,
    DType::I4,
    DType::U64,
    DType::F8E4M3FN,
];
const STRINGS: &[&str] =
    &["", "SAME_UPPER", "SAME_LOWER", "VALID", "linear", "nearest", "reflect", "edge", "forward", "?"];
const NAMES: &[&str] = &[
    "axis",
    "axes",
    "perm",
    "pads",
    "strides",
    "dilations",
    "kernel_shape",
    "group",
    "auto_pad",
    "ceil_mode",
    "transB",
    "to",
    "output_padding",
    "output_shape",
    "keepdims",
    "allowzero",
    "blocksize",
    "mode",
    "alpha",
    "split",
    "start",
    "end",
    "count_include_pad",
    "spatial",
    "epsilon",
    "k",
    "hidden_size",
    "block_size",
];
const OPERATORS: &[&str] = &[
    "Relu",
    "Conv",
    "ConvTranspose",
    "Gemm",
    "MatMul",
    "Add",
    "Mul",
    "Concat",
    "Reshape",
    "Transpose",
    "Flatten",
    "MaxPool",
    "AveragePool",
    "Resize",
    "Pad",
    "Slice",
    "Gather",
    "Softmax",
    "BatchNormalization",
    "Clip",
    "Cast",
    "Identity",
    "Squeeze",
    "Unsqueeze",
    "ReduceMean",
    "Tile",
    "Expand",
    "Split",
    "Shape",
    "Range",
    "ConstantOfShape",
    "Where",
    "TopK",
    "QuantizeLinear",
    "DequantizeLinear",
    "Einsum",
    "DepthToSpace",
    "LayerNormalization",
    "Reluu",
];

fn pick<T: Clone>(of: &[T], rng: &mut ChaCha8Rng) -> T {
    of[rng.random_range(0..of.len())].clone()
}

/// Changes `graph` somewhere and says what was done.
pub fn change(graph: &mut Graph, rng: &mut ChaCha8Rng) -> String {
    let values: Vec<ValueId> = graph.value_ids().collect();
    match rng.random_range(0..20) {
        0..=4 => attribute(graph, rng),
        5..=7 => contents(graph, rng),
        8..=9 => edges(graph, &values, rng),
        10..=11 => constant(graph, rng),
        12..=13 => declaration(graph, &values, rng),
        14 => operator(graph, rng),
        15 => nodes(graph, rng),
        16 => {
            let version = rng.random_range(5..28);
            graph.set_opset(version);
            format!("opset {version}")
        }
        17 => {
            let id = pick(&values, rng);
            let at = rng.random_range(0..=graph.outputs.len());
            graph.outputs.insert(at, id);
            format!("output {}", graph.name_of(id))
        }
        18 => {
            let id = pick(&values, rng);
            graph.inputs.push(id);
            format!("input {}", graph.name_of(id))
        }
        _ => {
            let id = pick(&values, rng);
            graph.value_mut(id).constant = None;
            format!("no contents of {}", graph.name_of(id))
        }
    }
}

fn some_attr(rng: &mut ChaCha8Rng) -> Attr {
    let count = rng.random_range(0..6);
    match rng.random_range(0..5) {
        0 => Attr::Int(pick(INTS, rng)),
        1 => Attr::Float(pick(FLOATS, rng)),
        2 => Attr::Ints((0..count).map(|_| pick(INTS, rng)).collect()),
        3 => Attr::Floats((0..count).map(|_| pick(FLOATS, rng)).collect()),
        _ => Attr::from(pick(STRINGS, rng)),
    }
}

fn attribute(graph: &mut Graph, rng: &mut ChaCha8Rng) -> String {
    if graph.nodes.is_empty() {
        return "nothing".to_owned();
    }
    let at = rng.random_range(0..graph.nodes.len());
    let node = &mut graph.nodes[at];
    let names: Vec<String> = node.attrs.iter().map(|(name, _)| name.to_owned()).collect();
    let name =
        if names.is_empty() || rng.random_range(0..4) == 0 { pick(NAMES, rng).to_owned() } else { pick(&names, rng) };
    let new = match node.attrs.get(&name) {
        Some(_) if rng.random_range(0..8) == 0 => {
            node.attrs.remove(&name);
            return format!("{} {at} without {name}", node.op_type);
        }
        Some(Attr::Int(_)) => Attr::Int(pick(INTS, rng)),
        Some(Attr::Float(_)) => Attr::Float(pick(FLOATS, rng)),
        Some(Attr::Ints(old)) => {
            let mut ints = old.clone();
            match (rng.random_range(0..4), ints.len()) {
                (0, _) | (_, 0) => ints.push(pick(INTS, rng)),
                (1, n) => drop(ints.remove(rng.random_range(0..n))),
                (2, n) => ints = vec![pick(INTS, rng); n],
                (_, n) => ints[rng.random_range(0..n)] = pick(INTS, rng),
            }
            Attr::Ints(ints)
        }
        _ => some_attr(rng),
    };
    let said = format!("{} {at}: {name} = {new:?}", node.op_type);
    node.attrs.set(&name, new);
    said
}

/// New numbers in a small constant: a shape, axes, pads, scales.
fn contents(graph: &mut Graph, rng: &mut ChaCha8Rng) -> String {
    let small = |id: &ValueId| graph.constant_of(*id).is_some_and(|t| t.len() <= 16);
    let small: Vec<ValueId> = graph.value_ids().filter(small).collect();
    if small.is_empty() {
        return "nothing".to_owned();
    }
    let id = pick(&small, rng);
    let Some(old) = graph.constant_of(id).cloned() else { return "nothing".to_owned() };
    let n = if rng.random_range(0..4) == 0 { rng.random_range(0..8) } else { old.len() };
    let shape = if n == old.len() { old.shape().to_vec() } else { vec![n] };
    let all = rng.random_range(0..3) == 0;
    let new = match old.to_i64() {
        Ok(ints) if old.dtype() == DType::I64 => {
            let one = |i: usize| {
                if all || rng.random_range(0..3) == 0 { pick(INTS, rng) } else { ints.get(i).copied().unwrap_or(1) }
            };
            Tensor::from_i64(&shape, &(0..n).map(one).collect::<Vec<_>>())
        }
        _ => {
            let floats = old.to_f32().unwrap_or_default();
            let one = |i: usize| {
                if all || rng.random_range(0..3) == 0 {
                    pick(FLOATS, rng)
                } else {
                    floats.get(i).copied().unwrap_or(1.0)
                }
            };
            Tensor::from_f32(&shape, &(0..n).map(one).collect::<Vec<_>>())
        }
    };
    let said = format!("{} = {:?} {:?}", graph.name_of(id), new.shape(), new.to_i64().ok());
    graph.value_mut(id).dtype = Some(new.dtype());
    graph.value_mut(id).constant = Some(new);
    said
}

fn edges(graph: &mut Graph, values: &[ValueId], rng: &mut ChaCha8Rng) -> String {
    if graph.nodes.is_empty() {
        return "nothing".to_owned();
    }
    let at = rng.random_range(0..graph.nodes.len());
    let node = &mut graph.nodes[at];
    // What bodies capture of the inputs goes by places.
    if node.bodies().next().is_some() {
        return "nothing".to_owned();
    }
    let said = format!("edges of {} {at}", node.op_type);
    let ids = if rng.random_range(0..4) == 0 { &mut node.outputs } else { &mut node.inputs };
    match (rng.random_range(0..4), ids.len()) {
        (0, _) | (_, 0) => ids.push(Some(pick(values, rng))),
        (1, n) => drop(ids.remove(rng.random_range(0..n))),
        (2, n) => ids[rng.random_range(0..n)] = None,
        (_, n) => ids[rng.random_range(0..n)] = Some(pick(values, rng)),
    }
    said
}

/// Another shape or type of a constant, with zeros in it.
fn constant(graph: &mut Graph, rng: &mut ChaCha8Rng) -> String {
    let constants: Vec<ValueId> = graph.value_ids().filter(|&id| graph.constant_of(id).is_some()).collect();
    if constants.is_empty() {
        return "nothing".to_owned();
    }
    let id = pick(&constants, rng);
    let Some(old) = graph.constant_of(id) else { return "nothing".to_owned() };
    let (mut shape, mut dtype) = (old.shape().to_vec(), old.dtype());
    match rng.random_range(0..5) {
        0 => shape.reverse(),
        1 => drop(shape.pop()),
        2 => shape.push(rng.random_range(0..3)),
        3 if !shape.is_empty() => {
            let at = rng.random_range(0..shape.len());
            shape[at] = rng.random_range(0..9);
        }
        _ => dtype = pick(DTYPES, rng),
    }
    let bytes = dtype.byte_len(shape.iter().product()).unwrap_or(0);
    let said = format!("{}: {dtype} {shape:?}", graph.name_of(id));
    if let Ok(new) = Tensor::new(dtype, shape, vec![0; bytes].into()) {
        graph.value_mut(id).dtype = Some(dtype);
        graph.value_mut(id).constant = Some(new);
    }
    said
}

/// Another type or shape in the declaration of a value.
fn declaration(graph: &mut Graph, values: &[ValueId], rng: &mut ChaCha8Rng) -> String {
    let ends: Vec<ValueId> = graph.inputs.iter().chain(&graph.outputs).copied().collect();
    let id = if ends.is_empty() || rng.random_range(0..3) == 0 { pick(values, rng) } else { pick(&ends, rng) };
    let said = format!("declaration of {}", graph.name_of(id));
    let size = |rng: &mut ChaCha8Rng| match rng.random_range(0..4) {
        0 => Dim::Unknown,
        1 => Dim::Symbol("N".to_owned()),
        _ => usize::try_from(pick(INTS, rng)).map_or(Dim::Unknown, Dim::Known),
    };
    let value = graph.value_mut(id);
    value.declared = true;
    match (rng.random_range(0..5), &mut value.shape) {
        (0, _) => value.dtype = Some(pick(DTYPES, rng)),
        (1, shape) => *shape = None,
        (2, Some(shape)) => shape.push(size(rng)),
        (3, Some(shape)) => drop(shape.pop()),
        (_, Some(shape)) if !shape.is_empty() => {
            let at = rng.random_range(0..shape.len());
            shape[at] = size(rng);
        }
        (_, shape) => *shape = Some(vec![size(rng)]),
    }
    said
}

fn operator(graph: &mut Graph, rng: &mut ChaCha8Rng) -> String {
    if graph.nodes.is_empty() {
        return "nothing".to_owned();
    }
    let at = rng.random_range(0..graph.nodes.len());
    let node = &mut graph.nodes[at];
    let new = pick(OPERATORS, rng);
    let said = format!("{} {at} is {new}", node.op_type);
    new.clone_into(&mut node.op_type);
    said
}

fn nodes(graph: &mut Graph, rng: &mut ChaCha8Rng) -> String {
    if graph.nodes.is_empty() {
        return "nothing".to_owned();
    }
    let at = rng.random_range(0..graph.nodes.len());
    if rng.random_range(0..2) == 0 {
        return format!("without {} {at}", graph.nodes.remove(at).op_type);
    }
    let mut again = graph.nodes[at].clone();
    let own = graph.add_value("again");
    again.outputs = vec![Some(own)];
    graph.nodes.insert(at, again);
    let reader = rng.random_range(0..graph.nodes.len());
    graph.nodes[reader].inputs.push(Some(own));
    format!("node {at} twice")
}
