//! Normalising passes: the text before and after, what is refused, and equal outputs in ONNX Runtime.

use std::collections::BTreeMap;

use dfq_onnx::Result;
use dfq_onnx::ir::{Attr, DType, Graph, Tensor, check, text};
use dfq_onnx::onnx;
use dfq_onnx::passes::{
    NORMALISE, drop_identity, fix_shapes, fold_constants, freeze_initializer_inputs, lift_constants, normalise,
};
use dfq_onnx::runtime::{Engine, SessionOptions, TractEngine};
use dfq_onnx::shape;

use crate::support::graph::Build;
use crate::support::{models, ort, random_inputs, relative_rms};

/// Folding computes the same operations in another session; only the order of fused sums may differ.
const ROUNDING: f64 = 1e-6;

fn outputs(graph: &Graph) -> Vec<Tensor> {
    let inputs = random_inputs(graph, 2, 7);
    ort().load(graph, &SessionOptions::default()).unwrap().run(&inputs).unwrap()
}

/// Expects `changes` changes that turn the dump of `graph` into `after`, and equal outputs.
fn rewrites(mut graph: Graph, pass: impl Fn(&mut Graph) -> Result<usize>, changes: usize, after: &str) {
    let expected = outputs(&graph);
    let found = pass(&mut graph).unwrap();
    check(&graph).unwrap();
    assert_eq!(text(&graph), after);
    assert_eq!(found, changes);
    assert_eq!(outputs(&graph), expected);
}

fn refuses(graph: Graph, pass: impl Fn(&mut Graph) -> Result<usize>) {
    let before = text(&graph);
    rewrites(graph, pass, 0, &before);
}

fn fold(graph: &mut Graph) -> Result<usize> {
    fold_constants(graph, ort())
}

#[test]
fn an_initializer_that_is_listed_as_input_becomes_a_constant() {
    let mut build = Build::new(13);
    let x = build.input("x", DType::F32, "N, 2");
    let w = build.graph.add_constant("w", Tensor::from_f32(&[2], &[1.0, 2.0]));
    build.graph.inputs.push(w);
    let y = build.node("y", "Add", &[x, w], []);
    let mut graph = build.finish(&[y]);
    graph.ir_version = 3;
    let mut frozen = graph.clone();
    freeze_initializer_inputs(&mut frozen).unwrap();
    assert_eq!((frozen.inputs, frozen.ir_version), (vec![x], 4));
    graph.ir_version = 8;
    let dump = "inputs %x: float32[N, 2]\n%y = Add(%x, float32[2])\noutputs %y: ?[…]\n";
    rewrites(graph, freeze_initializer_inputs, 1, dump);
}

#[test]
fn constants_of_every_numeric_kind_become_initializers_under_their_name() {
    let kinds = [
        ("value", Attr::Tensor(Tensor::from_f32(&[1, 2], &[1.0, 2.0])), "float32[1, 2]"),
        ("value_float", Attr::Float(3.0), "float32[]"),
        ("value_floats", Attr::Floats(vec![3.0, 4.0]), "float32[2]"),
    ];
    for (name, attr, shown) in kinds {
        let mut build = Build::new(13);
        let x = build.input("x", DType::F32, "N, 2");
        let c = build.node("c", "Constant", &[], [(name, attr)]);
        let y = build.node("y", "Add", &[x, c], []);
        let graph = build.finish(&[y]);
        assert!(text(&graph).contains("%c = Constant()"), "{}", text(&graph));
        let mut lifted = graph.clone();
        lift_constants(&mut lifted).unwrap();
        assert!(lifted.constant_of(c).is_some() && lifted.name_of(c) == "c");
        let dump = format!("inputs %x: float32[N, 2]\n%y = Add(%x, {shown})\noutputs %y: ?[…]\n");
        rewrites(graph, lift_constants, 1, &dump);
    }
    let kinds =
        [("value_ints", Attr::Ints(vec![2, -1]), "Reshape", "[2, -1]"), ("value_int", Attr::Int(-1), "Gather", "[-1]")];
    for (name, attr, op, shown) in kinds {
        let mut build = Build::new(13);
        let x = build.input("x", DType::F32, "2, 2");
        let c = build.node("c", "Constant", &[], [(name, attr)]);
        let y = build.node("y", op, &[x, c], []);
        let dump = format!("inputs %x: float32[2, 2]\n%y = {op}(%x, {shown})\noutputs %y: ?[…]\n");
        rewrites(build.finish(&[y]), lift_constants, 1, &dump);
    }
}

#[test]
fn a_constant_that_is_a_graph_output_stays_a_node() {
    let mut build = Build::new(13);
    let x = build.input("x", DType::F32, "N, 2");
    let c = build.node("c", "Constant", &[], [("value_float", Attr::Float(3.0))]);
    let y = build.node("y", "Add", &[x, c], []);
    refuses(build.finish(&[y, c]), lift_constants);
}

#[test]
fn identities_go_and_outputs_keep_their_names() {
    let mut build = Build::new(13);
    let x = build.input("x", DType::F32, "N, 2");
    let a = build.node("a", "Identity", &[x], []);
    let b = build.node("b", "Relu", &[a], []);
    let c = build.node("c", "Dropout", &[b], []);
    let d = build.node("d", "Cast", &[c], [("to", Attr::Int(1))]);
    let y = build.node("y", "Identity", &[d], []);
    let z = build.node("z", "Neg", &[b], []);
    let mut graph = build.finish(&[y, z]);
    shape::infer(&mut graph).unwrap();
    let dump = "inputs %x: float32[N, 2]\n%y = Relu(%x)\n%z = Neg(%y)\noutputs %y: float32[N, 2], %z: float32[N, 2]\n";
    rewrites(graph, drop_identity, 4, dump);
}

#[test]
fn an_identity_between_an_input_or_output_and_an_output_stays() {
    let mut build = Build::new(13);
    let x = build.input("x", DType::F32, "N, 2");
    let a = build.node("a", "Identity", &[x], []);
    let b = build.node("b", "Relu", &[x], []);
    let c = build.node("c", "Identity", &[b], []);
    refuses(build.finish(&[a, b, c]), drop_identity);
}

#[test]
fn a_dropout_whose_mask_is_read_or_that_may_train_stays() {
    let mut build = Build::new(13);
    let x = build.input("x", DType::F32, "N, 2");
    let a = build.node("a", "Dropout", &[x], []);
    let mask = build.graph.add_value("mask");
    build.graph.nodes[0].outputs.push(Some(mask));
    let b = build.node("b", "Cast", &[mask], [("to", Attr::Int(1))]);
    let c = build.node("c", "Add", &[a, b], []);
    refuses(build.finish(&[c]), drop_identity);

    for (mode, changes) in [(1u8, 0), (0, 1)] {
        let mut build = Build::new(13);
        let x = build.input("x", DType::F32, "N, 2");
        let ratio = build.graph.add_constant("ratio", Tensor::from_f32(&[], &[0.0]));
        let flag = Tensor::new(DType::Bool, vec![], vec![mode].into()).unwrap();
        let mode = build.graph.add_constant("mode", flag);
        let a = build.node("a", "Dropout", &[x, ratio, mode], []);
        let b = build.node("b", "Relu", &[a], []);
        let mut graph = build.finish(&[b]);
        assert_eq!(drop_identity(&mut graph).unwrap(), changes);
    }
}

#[test]
fn a_cast_to_another_type_stays() {
    let mut build = Build::new(13);
    let x = build.input("x", DType::F32, "N, 2");
    let a = build.node("a", "Cast", &[x], [("to", Attr::Int(10))]);
    let b = build.node("b", "Cast", &[a], [("to", Attr::Int(1))]);
    let c = build.node("c", "Relu", &[b], []);
    let mut graph = build.finish(&[c]);
    shape::infer(&mut graph).unwrap();
    refuses(graph, drop_identity);
}

#[test]
fn a_symbol_is_fixed_in_every_input() {
    let mut build = Build::new(13);
    let x = build.input("x", DType::F32, "N, 3");
    let m = build.input("m", DType::F32, "N, ?");
    let y = build.node("y", "Add", &[x, m], []);
    let graph = build.finish(&[y]);
    let with = |shapes: &[(&str, &[usize])]| {
        let mut graph = graph.clone();
        let shapes: Vec<_> = shapes.iter().map(|(n, s)| ((*n).to_owned(), s.to_vec())).collect();
        match fix_shapes(&mut graph, &shapes) {
            Ok(_) => text(&graph).lines().next().unwrap().to_owned(),
            Err(error) => error.to_string(),
        }
    };
    type Shapes<'a> = &'a [(&'a str, &'a [usize])];
    let cases: &[(Shapes, &str)] = &[
        (&[], "inputs %x: float32[N, 3], %m: float32[N, ?]"),
        (&[("x", &[4, 3])], "inputs %x: float32[4, 3], %m: float32[4, ?]"),
        (&[("x", &[4, 3]), ("m", &[4, 1])], "inputs %x: float32[4, 3], %m: float32[4, 1]"),
        (&[("q", &[4])], "input shape of \"q\": the model has no such input; it has \"x\", \"m\""),
        (&[("x", &[4])], "input shape of \"x\": [4] has 1 sizes, the model declares [N, 3]"),
        (&[("x", &[0, 3])], "input shape of \"x\": [0, 3] has a size of 0"),
        (&[("x", &[4, 3]), ("m", &[5, 3])], "input shape of \"m\": [5, 3] makes N 5, elsewhere it is 4"),
    ];
    let mut failed = Vec::new();
    for (shapes, expected) in cases {
        let found = with(shapes);
        if found != *expected {
            failed.push(format!("{shapes:?}: expected {expected}; found {found}"));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn a_reshape_target_made_of_the_batch_size_becomes_zero() {
    for (batch, joined) in [("N", &[-1i64][..]), ("?", &[-1]), ("N", &[6])] {
        let mut build = Build::new(13);
        let x = build.input("x", DType::F32, &format!("{batch}, 3, 2"));
        let (axes, rest) = (build.ints("axes", &[0]), build.ints("rest", joined));
        let s = build.node("s", "Shape", &[x], []);
        let first = build.graph.add_constant("first", Tensor::from_i64(&[], &[0]));
        let n = build.node("n", "Gather", &[s, first], [("axis", Attr::Int(0))]);
        let u = build.node("u", "Unsqueeze", &[n, axes], []);
        let t = build.node("t", "Concat", &[u, rest], [("axis", Attr::Int(0))]);
        let y = build.node("y", "Reshape", &[x, t], []);
        let dump =
            format!("inputs %x: float32[{batch}, 3, 2]\n%y = Reshape(%x, [0, {}])\noutputs %y: ?[…]\n", joined[0]);
        rewrites(build.finish(&[y]), fold, 1, &dump);
    }
}

#[test]
fn a_reshape_with_allowzero_keeps_its_computed_target() {
    let mut build = Build::new(14);
    let x = build.input("x", DType::F32, "N, 3");
    let s = build.node("s", "Shape", &[x], []);
    let y = build.node("y", "Reshape", &[x, s], [("allowzero", Attr::Int(1))]);
    refuses(build.finish(&[y]), fold);
}

#[test]
fn what_depends_on_constants_alone_is_computed_once() {
    let mut build = Build::new(13);
    let x = build.input("x", DType::F32, "N, 2");
    let c = build.graph.add_constant("c", Tensor::from_f32(&[2], &[1.0, 4.0]));
    let a = build.node("a", "Sqrt", &[c], []);
    let b = build.node("b", "Neg", &[a], []);
    let y = build.node("y", "Add", &[x, b], []);
    let z = build.node("z", "Mul", &[x, a], []);
    let graph = build.finish(&[y, z]);
    let mut folded = graph.clone();
    fold(&mut folded).unwrap();
    assert_eq!(folded.constant_of(b).unwrap().to_f32().unwrap(), [-1.0, -2.0]);
    let dump =
        "inputs %x: float32[N, 2]\n%y = Add(%x, float32[2])\n%z = Mul(%x, float32[2])\noutputs %y: ?[…], %z: ?[…]\n";
    rewrites(graph, fold, 2, dump);
}

#[test]
fn folding_keeps_dequantized_weights_large_results_and_graph_outputs() {
    let mut build = Build::new(13);
    let x = build.input("x", DType::F32, "N, 2");
    let w = build.graph.add_constant("w", Tensor::from_ints(DType::I8, &[2], &[1, 4]).unwrap());
    let scale = build.graph.add_constant("scale", Tensor::from_f32(&[], &[0.5]));
    let d = build.node("d", "DequantizeLinear", &[w, scale], []);
    let y = build.node("y", "Add", &[x, d], []);
    let wide = build.ints("wide", &[1, 600_000]);
    let big = build.node("big", "ConstantOfShape", &[wide], []);
    let sum = build.node("sum", "ReduceSum", &[big], []);
    let z = build.node("z", "Add", &[x, sum], []);
    let c = build.graph.add_constant("c", Tensor::from_f32(&[2], &[1.0, 4.0]));
    let o = build.node("o", "Sqrt", &[c], []);
    refuses(build.finish(&[y, z, o]), fold);
}

#[test]
fn folding_leaves_other_domains_alone() {
    let mut build = Build::new(13);
    let x = build.input("x", DType::F32, "N, 2");
    let c = build.graph.add_constant("c", Tensor::from_f32(&[2], &[1.0, 4.0]));
    let a = build.node("a", "Gelu", &[c], []);
    let y = build.node("y", "Add", &[x, a], []);
    let mut graph = build.finish(&[y]);
    graph.nodes[0].domain = "com.microsoft".to_owned();
    graph.opsets.push(dfq_onnx::ir::OperatorSet { domain: Some("com.microsoft".to_owned()), version: 1 });
    refuses(graph, fold);
}

fn counts(graph: &Graph) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for node in &graph.nodes {
        *counts.entry(node.op_type.clone()).or_default() += 1;
    }
    counts
}

#[test]
fn exporter_noise_is_gone_from_raw_residual_networks() {
    let cases = [
        ("resnet20_cifar10.onnx", 19, 19),
        ("resnet20_cifar10_clean.onnx", 19, 19),
        ("resnet20_cifar10_folded.onnx", 19, 0),
        ("resnet32_cifar10.onnx", 31, 31),
    ];
    let mut failed = Vec::new();
    for path in models() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let Some((_, convs, norms)) = cases.iter().find(|case| case.0 == name) else { continue };
        let mut graph = onnx::load(&path).unwrap();
        normalise(&mut graph, ort()).unwrap();
        let mut expected: BTreeMap<String, usize> = [
            ("Conv", *convs),
            ("BatchNormalization", *norms),
            ("Relu", *convs),
            ("Add", (convs - 1) / 2),
            ("Slice", 4),
        ]
        .into_iter()
        .chain([("Pad", 2), ("AveragePool", 1), ("Reshape", 1), ("Gemm", 1)])
        .map(|(op, n)| (op.to_owned(), n))
        .collect();
        expected.retain(|_, n| *n > 0);
        if counts(&graph) != expected {
            failed.push(format!("{name}: {:?}", counts(&graph)));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn every_model_computes_the_same_normalised_by_either_engine_and_is_then_left_alone() {
    let mut failed = Vec::new();
    for path in models() {
        let graph = onnx::load(&path).unwrap();
        let (mut by_ort, mut by_tract) = (graph.clone(), graph.clone());
        normalise(&mut by_ort, ort()).unwrap();
        normalise(&mut by_tract, &TractEngine).unwrap();
        if text(&by_ort) != text(&by_tract) {
            failed.push(format!("{}: the engines fold to different graphs", path.display()));
        }
        let again = normalise(&mut by_ort, ort()).unwrap();
        if again.iter().any(|(_, changes)| *changes > 0) {
            failed.push(format!("{}: a second time changes {again:?}", path.display()));
        }
        for (found, expected) in outputs(&by_ort).iter().zip(&outputs(&graph)) {
            let error = relative_rms(found, expected);
            if error > ROUNDING {
                failed.push(format!("{}: outputs differ by {error}", path.display()));
            }
        }
    }
    assert_eq!(NORMALISE.first().map(|row| row.0), Some("freeze_initializer_inputs"));
    assert!(failed.is_empty(), "{failed:#?}");
}
