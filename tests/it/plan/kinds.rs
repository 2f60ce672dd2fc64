//! Layers other than Conv and plain Gemm.

use dfq_onnx::ir::Attr;

use super::{Case, bits, conv, failures, small};
use crate::support::build::Build;
use crate::support::net::layer;

#[test]
fn layers_of_other_kinds_are_placed_or_refused_with_a_reason() {
    let mut attention = Build::at(13);
    attention.input("x", &[2, 4, 6]);
    layer(&mut attention, "MatMul", "x", "q", &[6, 6], 0, []);
    layer(&mut attention, "MatMul", "x", "k", &[6, 4], 0, []);
    attention.node("MatMul", "k q", "z", []);
    layer(&mut attention, "MatMul", "z", "y", &[6, 3], 0, []);
    let transposed = |group: i64| {
        small(|g| {
            conv(g, "x", "c1");
            g.node("Relu", "c1", "r1", []);
            let channels = 6 / usize::try_from(group).unwrap();
            layer(g, "ConvTranspose", "r1", "u", &[4, channels, 2, 2], 6, [("group", group.into())]);
            layer(g, "Conv", "u", "y", &[4, 6, 1, 1], 0, []);
        })
    };
    let gemm = |name: &'static str, value: Attr| {
        let mut g = Build::at(13);
        g.input("x", &[2, 6]);
        layer(&mut g, "Gemm", "x", "h", &[6, 6], 6, [(name, value)]);
        layer(&mut g, "Gemm", "h", "y", &[6, 3], 3, []);
        g.outputs("y")
    };
    let cases: Vec<Case> = vec![
        (
            "two activations",
            attention.outputs("y"),
            bits(4, 4),
            &[
                "Image 8: x*",
                "LayerInput 4: q*",
                "LayerInput 4: k*",
                "LayerInput 8: z*",
                "q_w 8 Some(1)",
                "k_w 8 Some(1)",
                "y_w 8 Some(1)",
                "float y: graph outputs stay float",
            ],
        ),
        (
            "ConvTranspose",
            transposed(1),
            bits(4, 4),
            &[
                "Image 8: x*",
                "LayerInput 4: r1*",
                "LayerInput 8: u*",
                "c1_w 8 Some(0)",
                "u_w 4 Some(1)",
                "y_w 8 Some(0)",
                "float y: graph outputs stay float",
            ],
        ),
        (
            "grouped ConvTranspose",
            transposed(2),
            bits(4, 4),
            &[
                "Image 8: x*",
                "LayerInput 4: r1*",
                "LayerInput 8: u*",
                "c1_w 8 Some(0)",
                "u_w 4 None",
                "y_w 8 Some(0)",
                "float y: graph outputs stay float",
            ],
        ),
        (
            "Gemm with alpha",
            gemm("alpha", 2.0.into()),
            bits(4, 4),
            &[
                "LayerInput 8: h*",
                "y_w 8 Some(1)",
                "float h: Gemm with alpha, beta or transA has no integer form",
                "float y: graph outputs stay float",
            ],
        ),
    ];
    let failed = failures(cases);
    assert!(failed.is_empty(), "{failed:#?}");
}
