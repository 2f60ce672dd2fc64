//! The fusion audit, held against the graphs that ONNX Runtime makes of the same files.

mod cases;
mod command;
mod other_runtimes;

use dfq_onnx::audit::{Runs, audit};
use dfq_onnx::ir::Graph;
use dfq_onnx::onnx;
use dfq_onnx::plan::{Policy, Target};

use crate::support::models;
use crate::support::optimised::{Became, became};
use crate::support::quantized::quantized;

/// Returns the nodes of `graph` that the audit is wrong about, and how many it is right about.
pub fn wrong(graph: &Graph, target: Target) -> (Vec<String>, usize) {
    let found = audit(graph, target).unwrap();
    let became = became(graph);
    let mut wrong = Vec::new();
    for node in &found.nodes {
        let at = graph.nodes.iter().position(|n| n.output(0).is_some_and(|y| graph.name_of(y) == node.output)).unwrap();
        let moves = MOVES.contains(&node.op_type.as_str());
        let right = match (node.runs, became[at]) {
            (Runs::Integer, Became::Integer) | (Runs::Float, Became::Float | Became::Gone) => true,
            (Runs::Absorbed, Became::Gone) => true,
            // Operators that move values are merged with others of their kind, or are gone where they do nothing.
            (Runs::Integer, Became::Gone) => moves,
            _ => false,
        };
        if !right {
            wrong.push(format!(
                "{} ({}): {:?} predicted, {:?} found; {:?}",
                node.name, node.op_type, node.runs, became[at], node.text
            ));
        }
    }
    let right = found.nodes.len() - wrong.len();
    (wrong, right)
}

const MOVES: &[&str] = &["Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze"];

#[test]
fn every_node_of_every_quantized_model_runs_as_predicted() {
    let mut failed = Vec::new();
    let mut right = 0;
    for path in models() {
        let float = onnx::load(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        for target in [Target::Onnx, Target::OrtCpu] {
            for (weight_bits, activation_bits, symmetric) in [(8, 8, true), (4, 8, true), (4, 4, true), (8, 5, false)] {
                let policy = Policy { target, weight_bits, activation_bits, symmetric, ..Policy::default() };
                let made = quantized(&float, &policy).unwrap();
                let (wrong, agreed) = wrong(&made.emitted, target);
                right += agreed;
                let place = format!("{name} {target:?} w{weight_bits}a{activation_bits}");
                failed.extend(wrong.into_iter().map(|w| format!("{place}: {w}")));
            }
        }
    }
    eprintln!("{right} nodes predicted right, {} wrong", failed.len());
    assert!(failed.is_empty(), "{failed:#?}");
}
