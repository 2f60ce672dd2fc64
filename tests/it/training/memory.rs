//! What a step is said to take of memory, counted by hand.

use dfq_onnx::ir::{Attr, DType, Graph};
use dfq_onnx::shape;
use dfq_onnx::train::peak_bytes;

use crate::support::build::Build;

fn inferred(build: Build, outputs: &str) -> Graph {
    let mut graph = build.outputs(outputs);
    shape::infer(&mut graph).unwrap();
    graph
}

/// `x: [2, 3]` 24 bytes, `w: [3, 4]` 48, and four results of 32 bytes each.
fn diamond(outputs: &str) -> Graph {
    let mut g = Build::at(21);
    g.input("x", &[2, 3]);
    g.weights("w", &[3, 4]);
    g.node("MatMul", "x w", "h", []);
    g.node("Relu", "h", "r", []);
    g.node("Add", "h r", "a", []);
    g.node("Sigmoid", "a", "y", []);
    inferred(g, outputs)
}

/// A chain of `n` results of 40 bytes from an input of 40.
fn chain(n: usize) -> Graph {
    let mut g = Build::at(21);
    g.input("v0", &[10]);
    (0..n).for_each(|i| g.node("Relu", &format!("v{i}"), &format!("v{}", i + 1), []));
    inferred(g, &format!("v{n}"))
}

/// `x: [4, 10]` 160 bytes in two halves of 80, of which nobody reads the second, and a mask of 20 bytes, one each.
fn types() -> Graph {
    let mut g = Build::at(21);
    g.input("x", &[4, 10]);
    g.ints("halves", &[5, 5]);
    g.node("Split", "x halves", "left right", [("axis", Attr::Int(1))]);
    g.node("Cast", "left", "mask", [("to", Attr::Int(DType::Bool.code().into()))]);
    g.node("Not", "mask", "y", []);
    inferred(g, "y")
}

#[test]
fn the_most_that_is_held_at_a_time_is_what_the_hand_counts() {
    let cases = [
        // x, w and y all along; h, r and a at the Add.
        ("a diamond", diamond("y"), 24 + 48 + 32 + 3 * 32),
        // h is an output too and stays; a and y beside x, w, h and r: at the Add again.
        ("two outputs", diamond("h y"), 24 + 48 + 2 * 32 + 2 * 32),
        // Input and output all along, two neighbours between them.
        ("a chain", chain(5), 40 + 40 + 2 * 40),
        ("a chain of one", chain(1), 40 + 40),
        // x, two integers and the output of 20 bytes; both halves at the Split, half and mask at the Cast.
        ("types, and what nobody reads", types(), 160 + 16 + 20 + 80 + 80),
    ];
    let wrong: Vec<String> = cases
        .into_iter()
        .map(|(name, graph, expected)| (name, peak_bytes(&graph), expected))
        .filter(|(_, found, expected)| found != expected)
        .map(|(name, found, expected)| format!("{name}: {found}, expected {expected}"))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
