//! Loading and saving keeps every field of every model.

use dfq_onnx::onnx;

use crate::support::models;
use crate::support::nets::net;
use crate::support::wire::{NODE, node, part_of_graph};

#[test]
fn load_and_save_gives_the_same_bytes_for_every_model() {
    let mut failed = Vec::new();
    for path in models() {
        let original = std::fs::read(&path).unwrap();
        let saved = onnx::encode(&onnx::load(&path).unwrap()).unwrap();
        if saved != original {
            failed.push(format!("{}: {} bytes in, {} out", path.display(), original.len(), saved.len()));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn empty_names_at_the_end_of_inputs_and_outputs_say_nothing() {
    let pool = node("pool", "MaxPool", &["x"], &["k", ""]);
    let clip = node("clip", "Clip", &["k", "", "", ""], &["l"]);
    let limited = node("limited", "Clip", &["k", "", "w", ""], &["m"]);
    let file = [net(|_| ()), part_of_graph(NODE, pool), part_of_graph(NODE, clip), part_of_graph(NODE, limited)];
    let graph = onnx::decode(file.concat().into()).unwrap();
    let edges = |name: &str| {
        let node = graph.nodes.iter().find(|node| node.name == name).unwrap();
        (node.inputs.len(), node.outputs.len())
    };
    assert_eq!([edges("pool"), edges("clip"), edges("limited")], [(1, 1), (1, 1), (3, 1)]);
}

#[test]
fn nodes_of_one_name_get_names_of_their_own() {
    let relu = |input: &str, output: &str| part_of_graph(NODE, node("same", "Relu", &[input], &[output]));
    let graph = onnx::decode([net(|_| ()), relu("x", "k"), relu("k", "l")].concat().into()).unwrap();
    let names: Vec<&str> = graph.nodes.iter().map(|node| node.name.as_str()).filter(|name| !name.is_empty()).collect();
    assert_eq!(names, ["same", "same_1"]);
}
