//! Outputs that copy others, and indices of pools, in both modes of ONNX Runtime.

use dfq_onnx::ir::{Attr, DType, Graph, Tensor};
use dfq_onnx::plan::{Policy, Target};

use crate::support::build::Build;
use crate::support::net::{layer, normal, pads, run, run_optimised, with_dynamic_batch};
use crate::support::quantized::{quantized, quantized_by};
use crate::support::random_inputs;

/// Returns what the graph computes as it is written, and with the options that every user has.
fn runs(graph: &Graph, inputs: &[Tensor]) -> [(&'static str, Vec<Tensor>); 2] {
    [("as written", run(graph, inputs).unwrap()), ("optimised", run_optimised(graph, inputs).unwrap())]
}

/// Copies of the input, of a weight, of another output and of what was moved from the input, beside a network.
fn copies() -> Graph {
    let mut g = Build::at(13);
    g.input("x", &[2, 3, 8, 8]);
    layer(&mut g, "Conv", "x", "c1", &[8, 3, 3, 3], 8, pads(1));
    g.node("Relu", "c1", "feat", []);
    layer(&mut g, "Conv", "feat", "c2", &[8, 8, 3, 3], 8, pads(1));
    g.node("Relu", "c2", "r2", []);
    g.node("GlobalAveragePool", "r2", "m", []);
    g.node("Flatten", "m", "f", []);
    layer(&mut g, "Gemm", "f", "y", &[5, 8], 5, [("transB", 1.into())]);
    g.node("Identity", "x", "x_copy", []);
    g.node("Transpose", "x", "x_turned", [("perm", vec![0, 2, 3, 1].into())]);
    g.node("Flatten", "x_turned", "x_flat", []);
    g.ints("shape", &[0, -1]);
    g.node("Reshape", "feat shape", "feat_flat", []);
    g.node("Identity", "feat", "feat_copy", []);
    g.node("Identity", "c2_w", "weight_copy", []);
    with_dynamic_batch(g.outputs("feat y x_copy x_flat feat_flat feat_copy weight_copy"))
}

#[test]
fn copies_that_leave_the_network_equal_what_they_copy_bit_for_bit() {
    let float = copies();
    let inputs = random_inputs(&float, 2, 1);
    let original = run(&float, &inputs).unwrap();
    let mut failed = Vec::new();
    for target in Target::ALL {
        let policy = Policy { target, ..Policy::default() };
        for recipe in ["nearest", "fast"] {
            let emitted = quantized_by(&float, &policy, recipe).unwrap().emitted;
            for (mode, found) in runs(&emitted, &inputs) {
                let bytes = |k: usize| found[k].bytes();
                let equal = [
                    ("x_copy", found[2] == original[2]),
                    ("x_flat", found[3] == original[3]),
                    ("feat_flat", bytes(4) == bytes(0)),
                    ("feat_copy", bytes(5) == bytes(0)),
                    ("weight_copy", found[6] == original[6]),
                ];
                let wrong: Vec<_> = equal.iter().filter(|(_, equal)| !equal).map(|(name, _)| name).collect();
                if !wrong.is_empty() {
                    failed.push(format!("{target:?}, {recipe}, {mode}: {wrong:?}"));
                }
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

/// Two layers, a pool whose indices leave the network beside its values, and a layer behind; `steps` stand before the pool.
fn indices(steps: impl FnOnce(&mut Build)) -> Graph {
    let mut g = Build::at(13);
    g.input("x", &[2, 3, 16, 16]);
    layer(&mut g, "Conv", "x", "c1", &[16, 3, 3, 3], 16, pads(1));
    g.node("Relu", "c1", "r1", []);
    steps(&mut g);
    let side: Attr = vec![2, 2].into();
    g.node("MaxPool", "p", "values i", [("kernel_shape", side.clone()), ("strides", side)]);
    layer(&mut g, "Conv", "values", "y", &[16, 16, 3, 3], 16, pads(1));
    let mut graph = g.outputs("y i");
    let id = graph.outputs[1];
    graph.value_mut(id).dtype = Some(DType::I64);
    graph
}

/// One index in so many may differ by the order in which kernels add.
const OTHER_ORDER: usize = 250;

#[test]
fn indices_of_pools_are_those_of_the_float_model() {
    let cases = [
        ("a layer before it", indices(|g| g.node("Identity", "r1", "p", []))),
        (
            "a joint before it",
            indices(|g| {
                g.constant("from", Tensor::from_i64(&[1], &[0]));
                g.constant("to", Tensor::from_i64(&[1], &[8]));
                g.constant("end", Tensor::from_i64(&[1], &[16]));
                g.constant("axis", Tensor::from_i64(&[1], &[1]));
                g.node("Slice", "r1 from to axis", "half", []);
                g.node("Slice", "r1 to end axis", "other", []);
                layer(g, "Conv", "half", "c2", &[8, 8, 3, 3], 8, pads(1));
                g.node("Concat", "c2 other", "p", [("axis", 1.into())]);
            }),
        ),
        (
            "a residual sum before it",
            indices(|g| {
                layer(g, "Conv", "r1", "c2", &[16, 16, 3, 3], 16, pads(1));
                g.node("Add", "c2 r1", "p", []);
            }),
        ),
    ];
    let mut failed = Vec::new();
    for (name, float) in cases {
        let inputs = vec![normal(&[2, 3, 16, 16], 0.7, 4)];
        let expected = run(&float, &inputs).unwrap()[1].to_i64().unwrap();
        for target in Target::ALL {
            let emitted = quantized(&float, &Policy { target, ..Policy::default() }).unwrap().emitted;
            for (mode, found) in runs(&emitted, &inputs) {
                let found = found[1].to_i64().unwrap();
                let moved = found.iter().zip(&expected).filter(|(a, b)| a != b).count();
                if moved * OTHER_ORDER > expected.len() {
                    failed.push(format!("{name}, {target:?}, {mode}: {moved} of {} indices moved", expected.len()));
                }
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
