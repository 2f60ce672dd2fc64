//! Graphs that contradict themselves or hold what is not handled.

use std::path::Path;

use dfq_onnx::ir::{Attr, DType, Dim, Node, OperatorSet, Tensor};

use super::{case, check, refused};
use crate::support::build::Build;
use crate::support::nets::{net, net_of, net_without_w, sound};
use crate::support::program::run;
use crate::support::wire::{self, INPUT, NODE, OUTPUT, attribute, bytes, part_of_graph};

#[test]
fn graphs_that_contradict_themselves_are_refused() {
    let more = |field, contents| [net(|_| ()), part_of_graph(field, contents)].concat();
    let cycle = [
        net(|_| ()),
        part_of_graph(NODE, wire::node("first", "Relu", &["b"], &["a"])),
        part_of_graph(NODE, wire::node("second", "Relu", &["a"], &["b"])),
    ];
    let no_output = net(|graph| graph.outputs.clear());
    let own_input = more(NODE, wire::node("own", "Add", &["x", "own_result"], &["own_result"]));
    check(&[
        refused("cycle", cycle.concat(), &["nodes form a cycle", "\"first\" (Relu)", "\"second\" (Relu)"]),
        refused("self", own_input, &["nodes form a cycle", "\"own\" (Add)"]),
        refused("undefined", net_without_w(), &["(Conv)", "input \"w\"", "no earlier node, graph input or init"]),
        refused("remade", more(NODE, wire::node("again", "Relu", &["x"], &["r"])), &["tensor \"r\"", "made twice"]),
        refused("remade input", more(NODE, wire::node("again", "Relu", &["r"], &["x"])), &["model.onnx"]),
        refused("remade weight", more(NODE, wire::node("again", "Relu", &["x"], &["w"])), &["\"w\"", "made twice"]),
        refused(
            "two outputs, one name",
            more(NODE, wire::node("n", "Split", &["r"], &["k", "k"])),
            &["\"k\"", "twice"],
        ),
        refused("input twice", more(INPUT, wire::value_info("x", 1, &[1])), &["input \"x\"", "declared twice"]),
        refused("absent output", more(OUTPUT, wire::value_info("z", 1, &[1])), &["output \"z\"", "no node makes it"]),
        refused("no output", no_output, &["has no output"]),
        refused(
            "shapes",
            net(|g| {
                let w = g.find("w").unwrap();
                g.value_mut(w).constant = Some(Tensor::from_f32(&[2, 5, 3, 3], &[0.1; 90]));
            }),
            &["(Conv)", "channels of input 0", "expected 5, found 1"],
        ),
    ]);
}

#[test]
fn what_is_not_handled_is_refused_with_advice() {
    let more = |field, contents| [net(|_| ()), part_of_graph(field, contents)].concat();
    let branch = [wire::node("choice", "If", &["c"], &["k"]), attribute("then_branch", 5, bytes(6, bytes(2, "t")))];
    let branches = [wire::node("choice", "Any", &["c"], &["k"]), attribute("graphs", 10, bytes(11, bytes(2, "t")))];
    let sparse = [wire::node("constant", "Constant", &[], &["k"]), attribute("sparse_value", 11, bytes(22, []))];
    let quantized = net(|graph| {
        let scale = graph.add_constant("s", Tensor::from_f32(&[], &[0.1]));
        let (x, q) = (graph.find("x").unwrap(), graph.add_value("q"));
        graph.nodes.push(Node::new("QuantizeLinear", [x, scale], [q], []));
        graph.outputs.push(q);
    });
    let mut relu = Build::at(13);
    relu.input("x", &[1, 4]);
    relu.node("Relu", "x", "y", []);
    let relu = dfq_onnx::onnx::encode(&relu.outputs("y")).unwrap();
    let opset = |version| net(|graph| graph.set_opset(version));
    let sequence = [bytes(1, "z"), bytes(2, bytes(4, []))].concat();
    check(&[
        refused("If", more(NODE, branch.concat()), &["\"choice\" (If)", "graph \"t\"", "has no output"]),
        refused("graphs", more(NODE, branches.concat()), &["\"choice\" (Any)", "graphs", "GRAPHS"]),
        refused("function", [net(|_| ()), wire::function("Gelu")].concat(), &["function \"Gelu\"", "inline"]),
        refused("sparse constant", more(NODE, sparse.concat()), &["\"constant\" (Constant)", "sparse_value"]),
        refused("string input", more(INPUT, wire::value_info("z", 8, &[1])), &["\"z\"", "string tensors"]),
        refused("sequence", more(INPUT, sequence), &["\"z\"", "only dense tensors"]),
        refused("quantized", quantized, &["QuantizeLinear", "quantized already", "dfq-onnx verify"]),
        refused("only Relu", relu, &["error: model.onnx: no layer", "no Conv, Gemm or MatMul"]),
        refused("edges in bfloat16", net_of(DType::BF16), &["\"x\"", "bfloat16", "Cast"]),
        refused("old", opset(6), &["error: model.onnx: opset 6 is older than 7", "export the model again"]),
        refused("new", opset(30), &["opset 30", "newer", "export the model again"]),
        refused("no opset", net(|graph| graph.opsets.clear()), &["opset"]),
        refused("negative opset", opset(-1), &["opset -1"]),
    ]);
}

#[test]
fn inputs_without_shapes_get_advice() {
    let shape = |shape: Option<Vec<Dim>>| {
        net(|graph| {
            let x = graph.find("x").unwrap();
            graph.value_mut(x).shape = shape;
        })
    };
    let image = |side: Dim| Some(vec![Dim::Symbol("N".to_owned()), Dim::Known(1), side.clone(), side]);
    check(&[
        refused("no rank", shape(None), &["input \"x\"", "--input-shape"]),
        refused("symbols", shape(image(Dim::Symbol("side".to_owned()))), &["input \"x\"", "--input-shape"]),
        refused("unknown", shape(image(Dim::Unknown)), &["input \"x\"", "--input-shape"]),
        case("wrong name", sound, "quantize model.onnx --input-shape z:1x1x6x6", 2, &["no such input", "\"x\""]),
        case("wrong rank", sound, "quantize model.onnx --input-shape x:1x6x6", 2, &["3 sizes", "[N, 1, 6, 6]"]),
    ]);
}

#[test]
fn inputs_that_no_machine_holds_are_missing_resources() {
    let sized = |n: Dim, side: usize| {
        move |folder: &Path| {
            let model = net(|graph| {
                let x = graph.find("x").unwrap();
                graph.value_mut(x).shape = Some(vec![n.clone(), Dim::Known(1), Dim::Known(side), Dim::Known(side)]);
            });
            std::fs::write(folder.join("model.onnx"), model).unwrap();
        }
    };
    let free = || Dim::Symbol("N".to_owned());
    let large = &["input \"x\"", "does not fit in memory", "--samples", "--input-shape"];
    check(&[
        case("more than memory", sized(free(), 1 << 16), "quantize model.onnx", 5, large),
        case("more than numbers", sized(free(), 1 << 40), "quantize model.onnx", 5, large),
        case("samples", sized(Dim::Known(usize::MAX >> 1), 6), "quantize model.onnx", 5, large),
        case("none", sized(Dim::Known(0), 6), "quantize model.onnx", 3, &["input \"x\"", "0 at axis 0"]),
    ]);
}

#[test]
fn integer_inputs_and_inputs_without_a_batch_axis_are_quantized() {
    let mut words = Build::at(13);
    words.input("ids", &[4, 5]);
    words.declare("ids", DType::I64);
    words.weights("table", &[2, 8]);
    words.weights("v", &[8, 3]);
    words.node("Gather", "table ids", "e", []);
    words.node("MatMul", "e v", "m", []);
    words.node("Relu", "m", "y", []);
    let mut pixels = Build::at(13);
    pixels.input("x", &[2, 1, 6, 6]);
    pixels.declare("x", DType::U8);
    pixels.weights("w", &[2, 1, 3, 3]);
    pixels.node("Cast", "x", "f", [("to", Attr::Int(1))]);
    pixels.node("Conv", "f w", "c", []);
    pixels.node("Relu", "c", "y", []);
    let mut vector = Build::at(13);
    vector.input("x", &[8]);
    vector.weights("v", &[8, 3]);
    vector.node("MatMul", "x v", "m", []);
    vector.node("Relu", "m", "y", []);
    let mut wrong = Vec::new();
    for (name, build) in [("words", words), ("pixels", pixels), ("vector", vector)] {
        let folder = tempfile::tempdir().unwrap();
        let model = dfq_onnx::onnx::encode(&build.outputs("y")).unwrap();
        std::fs::write(folder.path().join("model.onnx"), model).unwrap();
        let ran = run(folder.path(), "quantize model.onnx --format json");
        let layers = (ran.code == Some(0)).then(|| ran.json()["plan"]["layers"].as_array().map(Vec::len));
        if layers != Some(Some(1)) || ran.left.len() != 2 {
            wrong.push(format!("{name}: {:?} {layers:?}\n{}", ran.code, ran.stderr));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_no_runtime_knows_is_said_clearly() {
    let unknown = |graph: &mut dfq_onnx::ir::Graph| {
        let relu = graph.nodes.iter_mut().find(|n| n.op_type == "Relu").unwrap();
        (relu.op_type, relu.domain, relu.name) = ("Swirl".to_owned(), "com.example".to_owned(), "swirl".to_owned());
        graph.opsets.push(OperatorSet { domain: Some("com.example".to_owned()), version: 1 });
    };
    let attribute = |graph: &mut dfq_onnx::ir::Graph| {
        let conv = graph.nodes.iter_mut().find(|n| n.op_type == "Conv").unwrap();
        conv.attrs.set("strides", Attr::Ints(vec![0, 0]));
    };
    check(&[refused("stride", net(attribute), &["(Conv)", "strides"])]);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("model.onnx"), net(unknown)).unwrap();
    let ran = run(folder.path(), "quantize model.onnx --accept broken");
    let said = ran.stdout.contains("no engine here supports") && ran.stdout.contains("Swirl");
    assert!(ran.code == Some(0) && said, "{:?} {:?}\n{}{}", ran.code, ran.left, ran.stdout, ran.stderr);
}
