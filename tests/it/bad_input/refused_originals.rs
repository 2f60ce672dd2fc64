//! Models that ONNX Runtime refuses: a bad model, and no check that was missed.

use std::path::Path;

use dfq_onnx::ir::{Attr, Graph};

use super::{Case, case, check};
use crate::support::nets::net;
use crate::support::ort;

fn of_all(name: &'static str, says: &'static [&'static str], spoil: impl Fn(&mut Graph)) -> [Case; 2] {
    let model = net(spoil);
    let make = move |folder: &Path| std::fs::write(folder.join("model.onnx"), &model).unwrap();
    [case(name, make.clone(), "quantize model.onnx", 3, says), case(name, make, "inspect model.onnx", 3, says)]
}

fn renamed(to: &'static str, opset: i64) -> impl Fn(&mut Graph) {
    move |graph: &mut Graph| {
        graph.set_opset(opset);
        let relu = graph.nodes.iter_mut().find(|node| node.op_type == "Relu").unwrap();
        (relu.op_type, relu.name) = (to.to_owned(), "middle".to_owned());
    }
}

#[test]
fn operators_that_do_not_exist_are_refused_with_the_node() {
    ort();
    check(&flat([
        of_all("misspelt", &["error: model.onnx: node \"middle\" (Reluu)", "\"Relu\""], renamed("Reluu", 17)),
        of_all("of another framework", &["node \"middle\" (LeakyReLU2d)", "LeakyRelu"], renamed("LeakyReLU2d", 17)),
        of_all("too new", &["node \"middle\" (Gelu)", "opset 20", "opset 17"], renamed("Gelu", 17)),
        of_all("newer still", &["node \"middle\" (Swish)", "opset 24", "opset 13"], renamed("Swish", 13)),
    ]));
}

#[test]
fn what_onnx_runtime_refuses_of_a_node_is_told() {
    ort();
    let set = |name: &'static str, value: Attr| {
        move |graph: &mut Graph| {
            let relu = graph.nodes.iter_mut().find(|node| node.op_type == "Relu").unwrap();
            relu.name = "middle".to_owned();
            relu.set(name, value.clone());
        }
    };
    check(&flat([
        of_all("attribute", &["model.onnx", "Unrecognized attribute: alpha", "middle"], set("alpha", Attr::Float(1.0))),
        of_all("attribute that is no number", &["model.onnx", "middle"], set("alpha", Attr::Float(f32::NAN))),
    ]));
}

/// Returns the cases of all commands as one table.
fn flat<const N: usize>(cases: [[Case; 2]; N]) -> Vec<Case> {
    cases.into_iter().flatten().collect()
}
