//! The rules of runtimes that are not run here: what their documentation says, and "not known" beyond it.

use dfq_onnx::audit::{Kernels, Runs, audit_for};
use dfq_onnx::ir::{Attr, DType, Graph, ValueId};

use crate::support::qdq::{I8, Qdq, ScalarGrid, U8};

/// Returns `x -> Q/DQ -> y = op(x, weight)`, and what reads it.
fn layer(grid: Option<ScalarGrid>, op: &str, weight: Option<DType>) -> Graph {
    let mut n = Qdq::new(21);
    let image = n.input("x", &[1, 4, 8, 8]);
    let x = grid.map_or(image, |grid| n.pair(image, grid));
    let mut inputs: Vec<ValueId> = vec![x];
    if op == "Conv" {
        inputs.push(match weight {
            Some(dtype) => n.weight(&[8, 4, 3, 3], dtype),
            None => n.constant(&[8, 4, 3, 3]),
        });
    }
    let y = n.node("y", op, &inputs, [("kernel_shape", Attr::Ints(vec![3, 3]))]);
    let out = n.node("relu", "Relu", &[y], []);
    n.finish(&[out])
}

#[test]
fn documented_rules_hold_and_everything_else_is_not_known() {
    let (rt, ov) = (Kernels::TensorRt, Kernels::OpenVino);
    let cases = [
        ("symmetric int8", rt, layer(Some(I8), "Conv", Some(DType::I8)), Runs::Integer, Runs::Absorbed),
        ("uint8", rt, layer(Some(U8), "Conv", Some(DType::I8)), Runs::Float, Runs::NotKnown),
        (
            "zero point",
            rt,
            layer(Some(ScalarGrid { zero: 3, ..I8 }), "Conv", Some(DType::I8)),
            Runs::Float,
            Runs::NotKnown,
        ),
        ("int4 weight", rt, layer(Some(I8), "Conv", Some(DType::I4)), Runs::Float, Runs::NotKnown),
        ("only the weight", rt, layer(None, "Conv", Some(DType::I8)), Runs::Float, Runs::NotKnown),
        ("float weight", rt, layer(Some(I8), "Conv", None), Runs::Float, Runs::NotKnown),
        ("sigmoid", rt, layer(Some(I8), "Sigmoid", None), Runs::NotKnown, Runs::NotKnown),
        ("uint8 and int8", ov, layer(Some(U8), "Conv", Some(DType::I8)), Runs::Integer, Runs::Absorbed),
        ("int4 weight", ov, layer(Some(U8), "Conv", Some(DType::I4)), Runs::Float, Runs::NotKnown),
        ("sigmoid", ov, layer(Some(U8), "Sigmoid", None), Runs::NotKnown, Runs::NotKnown),
    ];
    let mut failed = Vec::new();
    for (name, kernels, graph, y, relu) in cases {
        let found: Vec<Runs> = audit_for(&graph, kernels).unwrap().nodes.iter().map(|node| node.runs).collect();
        if found != [y, relu] {
            failed.push(format!("{kernels}, {name}: {found:?}"));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
