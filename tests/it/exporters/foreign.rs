//! Operators that no engine here knows.

use dfq_onnx::ir::{DType, Dim, Graph};

use super::quantize_in;
use crate::support::build::Build;
use crate::support::net::{layer, pads};
use crate::support::program::run;

/// Conv, Conv behind what `middle` makes of `first` as `middle`, and outputs.
fn net(outputs: &str, middle: impl FnOnce(&mut Build)) -> Graph {
    let mut g = Build::at(17);
    g.fed("image", DType::F32, "N, 3, 8, 8");
    layer(&mut g, "Conv", "image", "c", &[4, 3, 3, 3], 4, pads(1));
    layer(&mut g, "Conv", "c", "first", &[4, 4, 3, 3], 4, pads(1));
    middle(&mut g);
    let mut graph = g.outputs(outputs);
    graph.import("com.example", 1);
    graph
}

#[test]
fn they_are_passed_through_and_the_rest_is_quantized_and_checked() {
    let custom = |g: &mut Build, x: &str, y: &str| {
        g.node("Magic", x, y, [("k", 3.into())]);
        g.domain("com.example");
        g.declare(y, DType::F32);
    };
    let tail = net("kept", |g| custom(g, "first", "kept"));
    let plugin = net("kept", |g| {
        g.node("EfficientNMS_TRT", "first", "kept", []);
        g.declare("kept", DType::F32);
    });
    let mut typed = net("last", |g| {
        custom(g, "first", "middle");
        layer(g, "Conv", "middle", "last", &[4, 4, 3, 3], 4, pads(1));
        g.declare("last", DType::F32);
    });
    let middle = typed.find("middle").unwrap();
    let dims = ["N", "4", "8", "8"].map(|d| d.parse().map_or_else(|_| Dim::Symbol(d.to_owned()), Dim::Known));
    typed.value_mut(middle).shape = Some(dims.to_vec());
    typed.value_mut(middle).declared = true;
    let untyped = net("last", |g| {
        custom(g, "first", "middle");
        layer(g, "Conv", "middle", "last", &[4, 4, 3, 3], 4, pads(1));
        g.declare("last", DType::F32);
    });
    let cases =
        [("at the end", tail, 2), ("a plugin", plugin, 2), ("in the middle", typed, 3), ("of no type", untyped, 2)];
    let mut failed = Vec::new();
    for (name, graph, layers) in cases {
        let folder = tempfile::tempdir().unwrap();
        match quantize_in(folder.path(), &graph, "") {
            Ok(found) => {
                for command in ["verify model.onnx out.onnx --accept broken", "inspect model.onnx"] {
                    let ran = run(folder.path(), command);
                    if ran.code != Some(0) {
                        failed.push(format!("{name}, {command}: exit {:?}, {}{}", ran.code, ran.stderr, ran.stdout));
                    }
                }
                let names = |ids: &[dfq_onnx::ir::ValueId], of: &Graph| -> Vec<String> {
                    ids.iter().map(|&id| of.name_of(id).to_owned()).collect()
                };
                let same = names(&found.graph.inputs, &found.graph) == names(&graph.inputs, &graph)
                    && names(&found.graph.outputs, &found.graph) == names(&graph.outputs, &graph);
                let kept = found.has("Magic") || found.has("EfficientNMS_TRT");
                if !same || !kept || found.layers() != layers || !found.warns("operators_not_run") {
                    failed.push(format!(
                        "{name}: {} layers, {kept}, {same}, {}",
                        found.layers(),
                        found.report["warnings"]
                    ));
                }
            }
            Err(error) => failed.push(format!("{name}: {error}")),
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
