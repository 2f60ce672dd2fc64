//! The two engines against each other, and the search for the library.

use std::path::Path;

use bytes::Bytes;
use dfq_onnx::Error;
use dfq_onnx::ir::{DType, Dim, Graph, Node, Tensor};
use dfq_onnx::onnx;
use dfq_onnx::runtime::{
    Device, Engine, Optimisation, OrtEngine, Places, Session, SessionOptions, TractEngine, locate,
};

use crate::support::{models, ort, random_inputs, relative_rms};

/// Float engines differ by the order of their sums only.
const SAME_FLOAT: f64 = 1e-4;

fn options(optimisation: Optimisation) -> SessionOptions {
    SessionOptions { optimisation, ..SessionOptions::default() }
}

/// Returns a graph of one input `x`, `nodes` made by `build`, and one output `y`.
fn graph_of(opset: i64, input: (DType, &[usize]), build: impl FnOnce(&mut Graph)) -> Graph {
    let mut graph = Graph::default();
    graph.name = "case".to_owned();
    graph.ir_version = 10;
    graph.set_opset(opset);
    let x = graph.add_value("x");
    graph.value_mut(x).dtype = Some(input.0);
    graph.value_mut(x).shape = Some(input.1.iter().map(|&d| Dim::Known(d)).collect());
    let y = graph.add_value("y");
    graph.value_mut(y).dtype = Some(input.0);
    graph.inputs.push(x);
    graph.outputs.push(y);
    build(&mut graph);
    graph
}

#[test]
fn every_model_gives_the_same_in_both_engines() {
    let engines: [(&str, &dyn Engine, Optimisation); 3] = [
        ("ONNX Runtime without optimisation", ort(), Optimisation::None),
        ("tract", &TractEngine, Optimisation::Default),
        ("tract without optimisation", &TractEngine, Optimisation::None),
    ];
    let mut failed = Vec::new();
    for path in models() {
        let graph = onnx::load(&path).unwrap();
        let dynamic = graph.fed_inputs().iter().any(|&id| graph.value(id).static_shape().is_none());
        let batches: &[usize] = if dynamic { &[1, 3] } else { &[1] };
        let mut reference = ort().load(&graph, &options(Optimisation::Default)).unwrap();
        let mut sessions: Vec<Box<dyn Session>> =
            engines.iter().map(|(_, engine, how)| engine.load(&graph, &options(*how)).unwrap()).collect();
        for &batch in batches {
            let inputs = random_inputs(&graph, batch, 1);
            let expected = reference.run(&inputs).unwrap();
            assert_eq!(expected.len(), graph.outputs.len());
            for ((name, ..), session) in engines.iter().zip(&mut sessions) {
                let found = session.run(&inputs).unwrap();
                for (f, e) in found.iter().zip(&expected) {
                    let error = relative_rms(f, e);
                    if error > SAME_FLOAT || f.dtype() != e.dtype() {
                        failed.push(format!("{} at batch {batch} in {name}: {error:.1e}", path.display()));
                    }
                }
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn tensors_of_every_type_pass_through_both_engines() {
    let types = [
        DType::F32,
        DType::F64,
        DType::F16,
        DType::BF16,
        DType::I8,
        DType::U8,
        DType::I16,
        DType::U16,
        DType::I32,
        DType::U32,
        DType::I64,
        DType::U64,
        DType::Bool,
    ];
    let mut failed = Vec::new();
    for dtype in types {
        let graph = graph_of(21, (dtype, &[2, 3]), |graph| {
            let (x, y) = (graph.inputs[0], graph.outputs[0]);
            graph.nodes.push(Node::new("Identity", [x], [y], []));
        });
        // Bytes 0 and 1 alone are valid in every type; as floats they are small numbers.
        let bytes: Vec<u8> = (0..6 * dtype.bits() / 8).map(|i| u8::from(i % 3 == 0)).collect();
        let input = Tensor::new(dtype, vec![2, 3], Bytes::from(bytes)).unwrap();
        let engines: [&dyn Engine; 2] = [ort(), &TractEngine];
        for engine in engines {
            let output = engine.load(&graph, &SessionOptions::default()).and_then(|mut s| s.run(&[input.clone()]));
            let same = output.as_ref().is_ok_and(|found| *found == [input.clone()]);
            let known_missing = dtype == DType::BF16 && engine.name().starts_with("tract");
            if same == known_missing {
                failed.push(format!("{dtype} in {}: {output:?}", engine.name()));
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
