//! If, Loop and Scan.

use dfq_onnx::ir::{Attr, Body, DType, Dim, Graph, Tensor};
use dfq_onnx::onnx;
use dfq_onnx::plan::Policy;

use super::{differs, quantize, quantize_in};
use crate::support::build::Build;
use crate::support::net::{layer, normal, pads};
use crate::support::program::run;
use crate::support::quantized::{Quantized, quantized};
use crate::support::random_inputs;

/// A body of which the inputs behind the first `formal` ones are captured, as the node's inputs from `first` on.
fn body(graph: Graph, formal: usize, first: usize) -> Attr {
    let captures = (first..first + graph.inputs.len() - formal).collect();
    Attr::from(Body { graph, captures })
}

/// A branch that captures `x` and makes `y` of it by what `fill` adds.
fn branch(fill: impl FnOnce(&mut Build)) -> Graph {
    let mut g = Build::at(17);
    g.fed("x", DType::F32, "N, 4, H, W");
    fill(&mut g);
    g.declare("y", DType::F32);
    g.outputs("y")
}

fn relu() -> Graph {
    branch(|g| g.node("Relu", "x", "y", []))
}

fn leaky() -> Graph {
    branch(|g| g.node("LeakyRelu", "x", "y", [("alpha", 0.1.into())]))
}

fn convolution(seed: &str) -> Graph {
    branch(|g| {
        layer(g, "Conv", "x", seed, &[4, 4, 3, 3], 4, pads(1));
        g.node("Relu", seed, "y", []);
    })
}

/// `x: [N, 3, H, W]` -> Conv -> If on what `condition` adds as `c` -> Conv.
fn with_if(condition: impl FnOnce(&mut Build), branches: [Graph; 2]) -> Graph {
    let mut g = Build::at(17);
    g.fed("image", DType::F32, "N, 3, H, W");
    layer(&mut g, "Conv", "image", "first", &[4, 3, 3, 3], 4, pads(1));
    condition(&mut g);
    let [then_branch, else_branch] = branches.map(|graph| body(graph, 0, 1));
    g.node("If", "c first", "chosen", [("then_branch", then_branch), ("else_branch", else_branch)]);
    layer(&mut g, "Conv", "chosen", "last", &[4, 4, 3, 3], 4, pads(1));
    g.declare("last", DType::F32);
    g.outputs("last")
}

/// `c`: whether axis `axis` of the image is `size`.
fn size_is(axis: i64, size: i64) -> impl FnOnce(&mut Build) {
    move |g: &mut Build| {
        g.node("Shape", "image", "shape", []);
        g.constant("axis", Tensor::from_i64(&[], &[axis]));
        g.constant("size", Tensor::from_i64(&[], &[size]));
        g.node("Gather", "shape axis", "dim", []);
        g.node("Equal", "dim size", "c", []);
    }
}

/// `c`: whether the mean of the image is above 0.
fn mean_is_positive(g: &mut Build) {
    g.constant("zero", Tensor::from_f32(&[], &[0.0]));
    g.node("ReduceMean", "image", "mean", [("keepdims", 0.into())]);
    g.node("Greater", "mean zero", "c", []);
}

/// `x: [N, 3, 8, 8]` -> Conv -> Loop or Scan that `repeat` adds between `first` and `repeated` -> Conv.
fn around(repeat: impl FnOnce(&mut Build)) -> Graph {
    let mut g = Build::at(17);
    g.fed("image", DType::F32, "N, 3, 8, 8");
    layer(&mut g, "Conv", "image", "first", &[4, 3, 3, 3], 4, pads(1));
    g.constant("half", Tensor::from_f32(&[1, 4, 1, 1], &[0.5, 0.6, 0.7, 0.8]));
    repeat(&mut g);
    layer(&mut g, "Conv", "repeated", "last", &[4, 4, 3, 3], 4, pads(1));
    g.declare("last", DType::F32);
    g.outputs("last")
}

/// Three times `v = Relu(v * half + first)`, with `half` and `first` of the graph around.
fn looped(g: &mut Build) {
    let mut b = Build::at(17);
    b.fed("i", DType::I64, "");
    b.fed("go", DType::Bool, "");
    b.fed("v", DType::F32, "N, 4, 8, 8");
    b.fed("half", DType::F32, "1, 4, 1, 1");
    b.fed("first", DType::F32, "N, 4, 8, 8");
    b.node("Identity", "go", "on", []);
    b.node("Mul", "v half", "scaled", []);
    b.node("Add", "scaled first", "sum", []);
    b.node("Relu", "sum", "next", []);
    b.declare("on", DType::Bool);
    b.declare("next", DType::F32);
    g.constant("times", Tensor::from_i64(&[], &[3]));
    g.node("Loop", "times _ first half first", "repeated", [("body", body(b.outputs("on next"), 3, 3))]);
}

/// Sums the rows of every map one after the other.
fn scanned(g: &mut Build) {
    let mut b = Build::at(17);
    b.fed("sum", DType::F32, "N, 4, 8");
    b.fed("row", DType::F32, "N, 4, 8");
    b.node("Add", "sum row", "next", []);
    b.node("Identity", "next", "out", []);
    b.declare("next", DType::F32);
    b.declare("out", DType::F32);
    g.ints("rows", &[2]);
    g.node("ReduceMean", "first", "start", [("axes", vec![2].into()), ("keepdims", 0.into())]);
    let attrs: [(&str, Attr); 4] = [
        ("body", body(b.outputs("next out"), 2, 2)),
        ("num_scan_inputs", 1.into()),
        ("scan_input_axes", vec![2].into()),
        ("scan_output_axes", vec![2].into()),
    ];
    g.node("Scan", "start first", "all repeated", attrs);
}

#[test]
fn a_graph_with_bodies_is_read_as_it_was_written() {
    let graph = with_if(mean_is_positive, [convolution("a"), leaky()]);
    let bytes = onnx::encode(&graph).unwrap();
    let read = onnx::decode(bytes.clone().into()).unwrap();
    assert_eq!(onnx::encode(&read).unwrap(), bytes);
    let choice = read.nodes.iter().find(|node| node.is("If")).unwrap();
    assert_eq!((choice.listed_inputs(), choice.inputs.len()), (1, 2), "a captured value is an input");
    assert_eq!(differs(&graph, &read, &random_inputs(&sized(&read), 2, 1)), None);
}

/// The same with the sides of its image fixed.
fn sized(graph: &Graph) -> Graph {
    let mut graph = graph.clone();
    for id in graph.inputs.clone() {
        graph.value_mut(id).shape.iter_mut().flatten().skip(2).for_each(|dim| *dim = Dim::Known(8));
    }
    graph
}

#[test]
fn an_if_that_the_model_decides_is_replaced_by_its_branch() {
    let nested = branch(|g| {
        g.node("Shape", "x", "s", []);
        g.constant("one", Tensor::from_i64(&[], &[1]));
        g.constant("four", Tensor::from_i64(&[], &[4]));
        g.node("Gather", "s one", "d", []);
        g.node("Equal", "d four", "c", []);
        let [a, b] = [convolution("inner"), leaky()].map(|graph| body(graph, 0, 1));
        g.node("If", "c x", "y", [("then_branch", a), ("else_branch", b)]);
    });
    let handed_on = branch(|g| g.node("Identity", "x", "y", []));
    let cases = [
        ("then", with_if(size_is(1, 3), [convolution("a"), leaky()]), 3),
        ("else", with_if(size_is(1, 4), [convolution("a"), relu()]), 2),
        ("an If in a branch", with_if(size_is(1, 3), [nested, leaky()]), 3),
        ("a branch that hands on", with_if(size_is(1, 3), [handed_on, leaky()]), 2),
    ];
    let mut failed = Vec::new();
    for (name, graph, layers) in cases {
        match quantize(&graph, "--input-shape image:?x3x8x8") {
            Ok(found) => {
                let differs = differs(&graph, &found.graph, &random_inputs(&sized(&graph), 2, 1));
                if found.has("If") || found.layers() != layers || differs.is_some() {
                    failed.push(format!("{name}: {} layers, {differs:?}", found.layers()));
                }
            }
            Err(error) => failed.push(format!("{name}: {error}")),
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn control_flow_that_data_or_open_sizes_decide_stays_and_the_rest_is_quantized() {
    let cases = [
        ("If on data", with_if(mean_is_positive, [relu(), leaky()]), "If"),
        ("If on an open size", with_if(size_is(2, 8), [relu(), leaky()]), "If"),
        ("layers inside", with_if(mean_is_positive, [convolution("a"), convolution("b")]), "If"),
        ("Loop", around(looped), "Loop"),
        ("Scan", around(scanned), "Scan"),
    ];
    let mut failed = Vec::new();
    for (name, graph, op) in cases {
        // Kernels of ONNX Runtime want more channels than the image has.
        for (target, layers) in [("onnx", 2), ("ort-cpu", 1)] {
            match quantize(&graph, &format!("--target {target} --input-shape image:?x3x8x8")) {
                Ok(found) => {
                    let differs = differs(&graph, &found.graph, &random_inputs(&sized(&graph), 2, 1));
                    if !found.has(op) || found.layers() != layers || differs.is_some() {
                        failed.push(format!("{name}, {target}: {} layers, {differs:?}", found.layers()));
                    }
                }
                Err(error) => failed.push(format!("{name}, {target}: {error}")),
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn a_loop_reads_what_it_captures_of_the_graph_around_in_floating_point() {
    let graph = around(looped);
    let Quantized { emitted, plan, .. } = quantized(&graph, &Policy::default()).unwrap();
    assert_eq!(plan.layers.len(), 2);
    assert_eq!(differs(&graph, &emitted, &[normal(&[2, 3, 8, 8], 0.5, 1)]), None);
    let node = emitted.nodes.iter().find(|node| node.is("Loop")).unwrap();
    assert_eq!((node.listed_inputs(), node.input(4).map(|id| emitted.name_of(id))), (3, Some("first")));
}

#[test]
fn an_axis_that_decides_which_layers_run_is_frozen_with_a_warning() {
    let graph = with_if(size_is(2, 8), [convolution("a"), leaky()]);
    let found = quantize(&graph, "--input-shape image:?x3x8x8").unwrap();
    assert!(!found.has("If") && found.warns("axes_frozen"), "{:?}", found.report["warnings"]);
    assert_eq!(found.declared().split(" -> ").next(), Some("N,3,8,W"));
    assert_eq!(differs(&graph, &found.graph, &random_inputs(&sized(&graph), 2, 1)), None);
    let open = quantize(&graph, "--input-shape image:?x3x?x8").unwrap_err();
    assert!(open.contains("--input-shape"), "without a size nothing can be run: {open}");
}

#[test]
fn weights_that_lie_inside_of_control_flow_alone_stay_float_and_are_named() {
    let mut g = Build::at(17);
    g.fed("x", DType::F32, "N, 4, 8, 8");
    g.fed("rate", DType::I64, "");
    g.constant("high", Tensor::from_i64(&[], &[16000]));
    g.node("Equal", "rate high", "c", []);
    let [a, b] = [convolution("a"), convolution("b")].map(|graph| body(graph, 0, 1));
    g.node("If", "c x", "y", [("then_branch", a), ("else_branch", b)]);
    g.declare("y", DType::F32);
    let graph = g.outputs("y");
    let found = quantize(&graph, "").unwrap();
    let of = found.report["plan"]["float"].to_string();
    assert_eq!(found.layers(), 0);
    assert!(found.warns("layers_stay_float"), "{:?}", found.report["warnings"]);
    assert!(of.contains("inside of it") && of.contains("--set-input"), "{of}");
    assert_eq!(found.report["verdict"], "good", "what is float throughout is what it was on any input");
    let mut inputs = random_inputs(&sized(&graph), 2, 1);
    for rate in [8000, 16000] {
        inputs[1] = Tensor::from_i64(&[], &[rate]);
        assert_eq!(differs(&graph, &found.graph, &inputs), None, "at {rate}");
    }
    let folder = tempfile::tempdir().unwrap();
    let found = quantize_in(folder.path(), &graph, "--set-input rate=16000").unwrap();
    assert_eq!((found.layers(), found.graph.inputs.len()), (1, 1));
    for command in ["verify model.onnx out.onnx --accept broken", "bench model.onnx out.onnx --runs 1"] {
        let ran = run(folder.path(), &format!("{command} --set-input rate=16000"));
        assert_eq!(ran.code, Some(0), "{command}: {}", ran.stderr);
    }
}

#[test]
fn halves_inside_of_bodies_stay_halves() {
    let half = |graph: Graph| {
        let mut graph = graph;
        for id in graph.value_ids() {
            let value = graph.value_mut(id);
            value.dtype = value.dtype.map(|dtype| if dtype == DType::F32 { DType::F16 } else { dtype });
            value.constant = value.constant.take().map(|t| match t.dtype() {
                DType::F32 => Tensor::from_floats(DType::F16, t.shape(), &t.to_f32().unwrap()).unwrap(),
                _ => t,
            });
        }
        graph
    };
    let mut graph = half(with_if(mean_is_positive, [half(relu()), half(leaky())]));
    let (x, y) = (graph.inputs[0], graph.outputs[0]);
    for id in [x, y] {
        graph.value_mut(id).dtype = Some(DType::F16);
    }
    let found = quantize(&graph, "--input-shape image:?x3x8x8").unwrap();
    assert_eq!((found.layers(), found.has("If")), (2, true));
    let inputs = normal(&[2, 3, 8, 8], 1.0, 5).to_type(DType::F16).unwrap();
    assert_eq!(differs(&graph, &found.graph, &[inputs]), None);
}
