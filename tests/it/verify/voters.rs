//! A runtime that cannot compute the float model is no judge of the quantized one; its wrong fusions stay out of it.

use dfq_onnx::ir::{Attr, DType, Graph, Tensor, ValueId};
use dfq_onnx::runtime::{Engine, SessionOptions, TractEngine};
use dfq_onnx::verify::{Verification, VerifyOptions, left_out, shadow, verify};

use super::{both, failed, named};
use crate::support::qdq::{Qdq, ScalarGrid, U8};
use crate::support::random_inputs;

/// An operator between two layers: how the node is written, with constants as it needs them.
pub(super) type Between = fn(&mut Qdq, ValueId) -> ValueId;

/// Returns a Gemm, what `between` adds, and another Gemm, in floats and quantized, on inputs `[4, 8]`.
pub(super) fn networks(between: Between, after: ScalarGrid) -> [Graph; 2] {
    [false, true].map(|is_quantized| {
        let mut q = Qdq::new(21);
        let mut at = q.input("x", &[4, 8]);
        let pair = |q: &mut Qdq, x, grid| if is_quantized { q.pair(x, grid) } else { x };
        at = pair(&mut q, at, U8);
        let w = weight(&mut q, is_quantized, "w");
        at = q.node("first", "Gemm", &[at, w], [("transB", Attr::Int(1))]);
        at = pair(&mut q, at, U8);
        at = between(&mut q, at);
        at = pair(&mut q, at, after);
        let v = weight(&mut q, is_quantized, "v");
        at = q.node("last", "Gemm", &[at, v], [("transB", Attr::Int(1))]);
        named(q.finish(&[at]))
    })
}

fn weight(q: &mut Qdq, is_quantized: bool, name: &str) -> ValueId {
    let integers: Vec<i32> = (0..64).map(|i| (37 * i + i * i / 5) % 255 - 127).collect();
    if is_quantized {
        let integers = q.0.add_constant(name, Tensor::from_ints(DType::I8, &[8, 8], &integers).unwrap());
        let scale = q.0.add_constant("scale", Tensor::from_f32(&[], &[0.01]));
        return q.node("stored", "DequantizeLinear", &[integers, scale], []);
    }
    let values: Vec<f32> = integers.iter().map(|&i| i as f32 * 0.01).collect();
    q.0.add_constant(name, Tensor::from_f32(&[8, 8], &values))
}

fn checked([float, quantized]: &[Graph; 2]) -> Verification {
    verify(float, quantized, &both(), None, &VerifyOptions::default()).unwrap()
}

const PROBABILITIES: ScalarGrid = ScalarGrid { dtype: DType::U8, scale: 1.0 / 255.0, zero: 0 };

#[test]
fn operators_that_look_at_whole_rows_are_checked_in_tract_behind_quantized_tensors() {
    let cases: [(&str, Between, ScalarGrid); 12] = [
        ("Softmax", |q, x| q.node("op", "Softmax", &[x], []), PROBABILITIES),
        ("Softmax of the first axis", |q, x| q.node("op", "Softmax", &[x], [("axis", Attr::Int(0))]), PROBABILITIES),
        (
            "Relu and Softmax",
            |q, x| {
                let r = q.node("r", "Relu", &[x], []);
                q.node("op", "Softmax", &[r], [])
            },
            PROBABILITIES,
        ),
        (
            "Softmax and Sqrt",
            |q, x| {
                let s = q.node("s", "Softmax", &[x], []);
                q.node("op", "Sqrt", &[s], [])
            },
            PROBABILITIES,
        ),
        (
            "LogSoftmax",
            |q, x| q.node("op", "LogSoftmax", &[x], []),
            ScalarGrid { dtype: DType::U8, scale: 0.05, zero: 255 },
        ),
        ("Hardmax", |q, x| q.node("op", "Hardmax", &[x], []), PROBABILITIES),
        (
            "LayerNormalization",
            |q, x| {
                let w = q.constant(&[8]);
                q.node("op", "LayerNormalization", &[x, w], [])
            },
            U8,
        ),
        (
            "what tract takes for an RMSNormalization",
            |q, x| {
                let (axes, two, small) = (q.ints(&[-1]), q.scalar(2.0), q.scalar(1e-5));
                let squares = q.node("squares", "Pow", &[x, two], []);
                let mean = q.node("mean", "ReduceMean", &[squares, axes], []);
                let sum = q.node("sum", "Add", &[mean, small], []);
                let root = q.node("root", "Sqrt", &[sum], []);
                let factor = q.node("factor", "Reciprocal", &[root], []);
                q.node("op", "Mul", &[x, factor], [])
            },
            U8,
        ),
        ("LpNormalization", |q, x| q.node("op", "LpNormalization", &[x], []), U8),
        (
            "mean taken off",
            |q, x| {
                let axes = q.ints(&[-1]);
                let m = q.node("m", "ReduceMean", &[x, axes], []);
                q.node("op", "Sub", &[x, m], [])
            },
            U8,
        ),
        ("Sigmoid", |q, x| q.node("op", "Sigmoid", &[x], []), PROBABILITIES),
        ("Gelu", |q, x| q.node("op", "Gelu", &[x], []), U8),
    ];
    let mut wrong = Vec::new();
    for (name, between, after) in cases {
        let result = checked(&networks(between, after));
        if !result.passed() || !result.second_runtime {
            wrong.push(format!("{name}: {:?} {:?}", result.left_out, failed(&result)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_runtime_without_an_operator_or_with_a_wrong_one_has_no_say_and_the_other_still_judges() {
    let cases: [(&str, Between, &str); 2] = [
        ("lacks it", lacking_an_operator, "cannot run"),
        (
            "computes another mean",
            |q, x| {
                let shape = q.ints(&[4, 2, 2, 2]);
                let image = q.node("image", "Reshape", &[x, shape], []);
                let pooled = q.node("pooled", "GlobalLpPool", &[image], [("p", Attr::Int(2))]);
                let one = q.node("one", "Add", &[image, pooled], []);
                let shape = q.ints(&[4, 8]);
                q.node("op", "Reshape", &[one, shape], [])
            },
            "differs from ONNX Runtime",
        ),
    ];
    let mut wrong = Vec::new();
    for (name, between, reason) in &cases {
        let graphs = networks(*between, U8);
        let result = checked(&graphs);
        let said = result.left_out.iter().any(|l| l.engine.starts_with("tract") && l.reason.contains(reason));
        if !result.passed() || result.second_runtime || !said || !result.notes.iter().any(|n| n.contains(reason)) {
            wrong.push(format!("{name}: {:?} {:?} {:?}", result.left_out, result.notes, failed(&result)));
        }
        let inputs = random_inputs(&graphs[0], 4, 1);
        if !left_out(&graphs[0], &both(), &inputs).iter().any(|l| l.reason.contains(reason)) {
            wrong.push(format!("{name}: is not foretold"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let sound = networks(|q, x| q.node("op", "Relu", &[x], []), U8);
    assert!(left_out(&sound[0], &both(), &random_inputs(&sound[0], 4, 1)).is_empty());
}

pub(super) fn lacking_an_operator(q: &mut Qdq, x: ValueId) -> ValueId {
    let shape = q.ints(&[4, 2, 2, 2]);
    let image = q.node("image", "Reshape", &[x, shape], []);
    let zeros: Vec<i64> = (0..4).flat_map(|n| (0..2).map(move |c| (n * 2 + c) * 4)).collect();
    let indices = q.0.add_constant("indices", Tensor::from_i64(&[4, 2, 1, 1], &zeros));
    let pooled = q.node("pooled", "GlobalMaxPool", &[image], []);
    let square = || Attr::Ints(vec![2, 2]);
    let wide = q.node("wide", "MaxUnpool", &[pooled, indices], [("kernel_shape", square()), ("strides", square())]);
    let sum = q.node("sum", "Add", &[image, wide], []);
    let shape = q.ints(&[4, 8]);
    q.node("op", "Reshape", &[sum, shape], [])
}

/// What becomes of the name of the node at a place.
type Rename = fn(usize, &str) -> String;

#[test]
fn names_that_clash_in_one_name_space_load_in_tract() {
    let [_, sound] = networks(|q, x| q.node("op", "Relu", &[x], []), U8);
    let mut wrong = Vec::new();
    let cases: [(&str, Rename); 5] = [
        ("that of an input", |_, _| "x".to_owned()),
        ("none", |_, _| String::new()),
        ("that of a tensor", |_, _| "first".to_owned()),
        ("that of an initializer", |_, _| "scale".to_owned()),
        ("every second one the same", |i, own| if i % 2 == 0 { own.to_owned() } else { "same".to_owned() }),
    ];
    for (name, rename) in cases {
        let mut graph = sound.clone();
        for (i, node) in graph.nodes.iter_mut().enumerate() {
            node.name = rename(i, &node.name);
        }
        let inputs = random_inputs(&graph, 4, 5);
        let run = |graph: &Graph| TractEngine.load(&shadow(graph)?, &SessionOptions::default())?.run(&inputs);
        match (run(&sound), run(&graph)) {
            (Ok(expected), Ok(found)) if expected == found => {}
            (_, found) => wrong.push(format!("{name}: {found:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
