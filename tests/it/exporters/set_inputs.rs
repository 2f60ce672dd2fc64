//! Inputs that become constants.

use dfq_onnx::ir::{DType, Graph, text};
use dfq_onnx::passes::set_inputs;

use crate::support::build::Build;

fn graph() -> Graph {
    let mut g = Build::at(17);
    g.fed("x", DType::F32, "N, 3");
    g.fed("sr", DType::I64, "");
    g.fed("flags", DType::Bool, "2");
    g.fed("scale", DType::F32, "N, 1");
    g.node("Relu", "x", "y", []);
    g.outputs("y")
}

#[test]
fn inputs_take_values_of_their_type_and_shape() {
    let set = |name: &str, value: &str| {
        let mut graph = graph();
        match set_inputs(&mut graph, &[(name.to_owned(), value.to_owned())]) {
            Ok(_) => {
                let tensor = graph.find(name).and_then(|id| graph.constant_of(id)).unwrap();
                let values =
                    tensor.to_i64().map(|v| format!("{v:?}")).or_else(|_| tensor.to_f32().map(|v| format!("{v:?}")));
                let inputs = text(&graph).lines().next().unwrap().matches('%').count();
                format!("{} {:?} {} of {inputs} inputs", tensor.dtype(), tensor.shape(), values.unwrap())
            }
            Err(error) => error.to_string(),
        }
    };
    let cases = [
        ("a number", set("sr", "16000"), "int64 [] [16000] of 3 inputs"),
        ("booleans", set("flags", "true,false"), "bool [2] [1, 0] of 3 inputs"),
        ("one for all", set("flags", "1"), "bool [2] [1, 1] of 3 inputs"),
        ("open sizes are 1", set("scale", "0.5"), "float32 [1, 1] [0.5] of 3 inputs"),
        ("an unknown name", set("rate", "1"), "no such input; the nearest are"),
        ("a word", set("sr", "high"), "\"high\" is not of type int64"),
        ("too many", set("sr", "1,2"), "2 values for 1 element(s)"),
    ];
    let wrong: Vec<_> = cases.iter().filter(|(_, found, expected)| !found.contains(expected)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
