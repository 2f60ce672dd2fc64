//! Types and shapes of what operators without a rule make.

use dfq_onnx::ir::{DType, Graph};

use super::{differs, quantize};
use crate::support::build::Build;
use crate::support::net::{layer, normal, pads};

/// Conv, what `middle` makes of `first: [N, 4, 8, 8]` as `middle` with so many channels, Conv.
fn net(opset: i64, channels: usize, middle: impl FnOnce(&mut Build)) -> Graph {
    let mut g = Build::at(opset);
    g.fed("image", DType::F32, "N, 3, 8, 8");
    layer(&mut g, "Conv", "image", "first", &[4, 3, 3, 3], 4, pads(1));
    middle(&mut g);
    layer(&mut g, "Conv", "middle", "last", &[4, channels, 3, 3], 4, pads(1));
    g.declare("last", DType::F32);
    let mut graph = g.outputs("last");
    if graph.nodes.iter().any(|node| !node.domain.is_empty()) {
        graph.import("com.microsoft", 1);
    }
    graph
}

#[test]
fn layers_behind_operators_without_a_rule_are_quantized() {
    let einsum = |g: &mut Build| {
        g.constant("m", normal(&[6, 4], 0.4, 1));
        g.node("Einsum", "first m", "middle", [("equation", "nchw,oc->nohw".into())]);
    };
    let rms = |g: &mut Build| {
        g.constant("gain", normal(&[8], 1.0, 2));
        g.node("RMSNormalization", "first gain", "middle", [("axis", (-1).into())]);
    };
    let cases = [
        ("Swish", net(24, 4, |g| g.node("Swish", "first", "middle", []))),
        ("Einsum", net(17, 6, einsum)),
        ("RMSNormalization", net(23, 4, rms)),
        (
            "an operator of ONNX Runtime's own",
            net(17, 4, |g| {
                g.node("QuickGelu", "first", "middle", [("alpha", 1.5.into())]);
                g.domain("com.microsoft");
            }),
        ),
    ];
    let mut failed = Vec::new();
    for (name, graph) in cases {
        match quantize(&graph, "") {
            Ok(found) => {
                let differs = differs(&graph, &found.graph, &[normal(&[2, 3, 8, 8], 1.0, 7)]);
                if found.layers() != 2 || differs.is_some() {
                    failed.push(format!("{name}: {} layers, {differs:?}", found.layers()));
                }
            }
            Err(error) => failed.push(format!("{name}: {error}")),
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
