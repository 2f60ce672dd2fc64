//! Copies that leave the network, and what indices depend on: neither is made of values on a grid.

use dfq_onnx::ir::{Attr, Graph};
use dfq_onnx::plan::{LayerBits, Policy, Target};

use super::{Case, bits, conv, failures, small};
use crate::support::build::Build;

fn outputs(mut graph: Graph, names: &[&str]) -> Graph {
    graph.outputs = names.iter().map(|name| graph.find(name).unwrap()).collect();
    graph
}

fn pool(g: &mut Build, x: &str, outputs: &str) {
    let side: Attr = vec![2, 2].into();
    g.node("MaxPool", x, outputs, [("kernel_shape", side.clone()), ("strides", side)]);
}

#[test]
fn grids_end_where_rounding_would_show() {
    let transpose = |g: &mut Build, x: &str, y: &str| g.node("Transpose", x, y, [("perm", vec![0, 1, 3, 2].into())]);
    let input_copied = small(|g| {
        transpose(g, "x", "t");
        conv(g, "t", "c");
        g.node("Relu", "c", "y", []);
    });
    let inner_moved = small(|g| {
        conv(g, "x", "c");
        g.node("Relu", "c", "r", []);
        transpose(g, "r", "t");
        conv(g, "t", "y");
    });
    let ort_cpu = || Policy { target: Target::OrtCpu, ..Policy::default() };
    let asked_for = || Policy { layer_bits: vec![("b".to_owned(), LayerBits::both(8))], ..ort_cpu() };
    let cases: Vec<Case> = vec![
        (
            "a moved input that is an output and is read by a layer",
            outputs(input_copied, &["t", "y"]),
            bits(8, 8),
            &[
                "Image 8: t*",
                "c_w 8 Some(0)",
                "float c: read by Relu in floating point",
                "float y: graph outputs stay float",
            ],
        ),
        (
            "an inner tensor that is moved alone",
            outputs(inner_moved, &["y"]),
            bits(8, 8),
            &[
                "Image 8: x*",
                "LayerInput 8: r* t",
                "c_w 8 Some(0)",
                "y_w 8 Some(0)",
                "float y: graph outputs stay float",
            ],
        ),
        (
            "indices of a sum",
            indexed(true),
            ort_cpu(),
            &[
                "LayerInput 8: j* p*",
                "Carrier 8: f*",
                "Carrier 8: q*",
                "q_w 8 Some(0)",
                "float a: the indices of a MaxPool depend on it, and rounding would change them; --layer-bits NAME=8 \
                 quantizes it anyway",
                "float b: the indices of a MaxPool depend on it, and rounding would change them; --layer-bits NAME=8 \
                 quantizes it anyway",
                "float a: read by Relu in floating point",
                "float r: read by Conv, Add in floating point",
                "float b: read by Add in floating point",
                "float y: graph outputs stay float",
            ],
        ),
        (
            "indices behind a layer that was asked for",
            indexed(true),
            asked_for(),
            &[
                "LayerInput 8: r*",
                "LayerInput 8: j* p*",
                "Carrier 8: f*",
                "Carrier 8: q*",
                "b_w 8 Some(0)",
                "q_w 8 Some(0)",
                "float a: the indices of a MaxPool depend on it, and rounding would change them; --layer-bits NAME=8 \
                 quantizes it anyway",
                "float b: read by Add in floating point",
                "float y: graph outputs stay float",
            ],
        ),
        (
            "indices behind all layers",
            indexed(false),
            ort_cpu(),
            &[
                "Image 8: x*",
                "LayerInput 8: r*",
                "Carrier 8: f*",
                "Carrier 8: q*",
                "a_w 8 Some(0)",
                "b_w 8 Some(0)",
                "float b: read by Add in floating point",
                "float j: read by MaxPool in floating point",
                "float y: graph outputs stay float",
            ],
        ),
    ];
    let failed = failures(cases);
    assert!(failed.is_empty(), "{failed:#?}");
}

/// A pool of two joined layers whose values and indices are read, the values by a third layer if there is one.
fn indexed(third: bool) -> Graph {
    small(|g| {
        conv(g, "x", "a");
        g.node("Relu", "a", "r", []);
        conv(g, "r", "b");
        g.node("Add", "r b", "j", []);
        pool(g, "j", "p _");
        pool(g, "j", "unread i");
        g.node("Cast", "i", "f", [("to", 1.into())]);
        if third {
            conv(g, "p", "q")
        } else {
            g.node("Relu", "p", "q", [])
        }
        g.node("Add", "q f", "y", []);
    })
}
