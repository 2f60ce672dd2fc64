//! Optional inputs and outputs that are left out by an empty name at the end, which some runtimes do not survive.

use dfq_onnx::ir::{Attr, DType, Node, Tensor};
use dfq_onnx::onnx;

use crate::support::build::Build;
use crate::support::program::run;
use crate::support::wire::{self, NODE, OUTPUT, part_of_graph};

/// Returns a net whose last node, from `t` to `u`, is `op` with these inputs and outputs as they are.
fn net(op: &str, inputs: &[&str], outputs: &[&str], attribute: Vec<u8>) -> Vec<u8> {
    let mut b = Build::at(17);
    b.input("x", &[1, 3, 8, 8]);
    b.weights("w", &[4, 3, 3, 3]);
    b.weights("k", &[2, 4, 1, 1]);
    b.weights("scale", &[6]);
    b.constant("scales", Tensor::from_f32(&[4], &[1.0, 1.0, 2.0, 2.0]));
    b.constant("low", Tensor::from_f32(&[], &[0.0]));
    b.node("Conv", "x w", "t", []);
    // Another output keeps every initializer.
    b.node("Conv", "t k", "z", []);
    b.declare("z", DType::F32);
    let graph = b.outputs("z");
    let node = [wire::node("last", op, inputs, outputs), attribute].concat();
    [onnx::encode(&graph).unwrap(), part_of_graph(NODE, node), part_of_graph(OUTPUT, wire::value_info("u", 1, &[]))]
        .concat()
}

#[test]
fn empty_names_at_the_end_are_as_if_they_were_not_there() {
    let axis = || wire::attribute("axis", 2, wire::int(3, -1));
    type Row = (&'static str, &'static [&'static str], Vec<u8>);
    let rows: [Row; 6] = [
        ("Conv", &["t", "k", ""], Vec::new()),
        ("LayerNormalization", &["t", "scale", ""], axis()),
        ("Clip", &["t", "low", ""], Vec::new()),
        ("Clip", &["t", "", ""], Vec::new()),
        ("Resize", &["t", "", "scales", ""], Vec::new()),
        ("Dropout", &["t", "", ""], Vec::new()),
    ];
    let mut wrong = Vec::new();
    for (op, inputs, attribute) in rows {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("model.onnx"), net(op, inputs, &["u"], attribute)).unwrap();
        for command in [
            "quantize model.onnx --accept broken -o out.onnx",
            "bench model.onnx --runs 1",
            "verify model.onnx out.onnx",
        ] {
            let ran = run(folder.path(), command);
            if !matches!(ran.code, Some(0 | 4)) || command.starts_with("quantize") && ran.code != Some(0) {
                wrong.push(format!("{op} {inputs:?}, {command}: {:?}\n{}", ran.code, ran.stderr));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_written_lists_no_empty_names_at_the_end() {
    let mut b = Build::at(17);
    b.input("x", &[2, 6]);
    b.weights("scale", &[6]);
    let attrs = [("axis", Attr::Int(-1))];
    b.node("LayerNormalization", "x scale _", "y _ _", attrs);
    b.declare("y", DType::F32);
    let read = onnx::decode(onnx::encode(&b.outputs("y")).unwrap().into()).unwrap();
    let Node { inputs, outputs, .. } = &read.nodes[0];
    assert_eq!((inputs.len(), outputs.len()), (2, 1));
}
