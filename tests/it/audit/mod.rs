//! The fusion audit, held against the graphs that ONNX Runtime makes of the same files.

mod cases;
mod command;
mod other_runtimes;

use dfq_onnx::audit::{Kernels, Runs, audit};
use dfq_onnx::ir::Graph;
use dfq_onnx::onnx;
use dfq_onnx::plan::{INTEGER_KERNELS, LAYERS, Policy, Target};

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
            (Runs::Integer, Became::Integer) | (Runs::Float, Became::Float) | (Runs::Absorbed, Became::Gone) => true,
            // A float layer takes in what follows it, and is itself always there.
            (Runs::Float, Became::Gone) => !LAYERS.contains(&node.op_type.as_str()),
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

/// Policies that leave different things float, the second layer of the model and all sums among them.
fn policies(float: &Graph) -> Vec<(String, Policy)> {
    let mut policies = Vec::new();
    for target in [Target::Onnx, Target::OrtCpu] {
        for (weight_bits, activation_bits, symmetric) in [(8, 8, true), (4, 8, true), (4, 4, true), (8, 5, false)] {
            let policy = Policy { target, weight_bits, activation_bits, symmetric, ..Policy::default() };
            policies.push((format!("w{weight_bits}a{activation_bits}"), policy));
        }
        let base = Policy { target, ..Policy::default() };
        let layer = float.nodes.iter().filter(|n| LAYERS.contains(&n.op_type.as_str())).nth(1).unwrap();
        let output = float.name_of(layer.output(0).unwrap());
        let exclude = vec![if layer.name.is_empty() { output } else { &layer.name }.to_owned()];
        policies.push(("second layer float".to_owned(), Policy { exclude, ..base.clone() }));
        if float.nodes.iter().any(|n| n.is("Add")) {
            policies.push(("sums float".to_owned(), Policy { exclude_ops: vec!["Add".to_owned()], ..base }));
        }
    }
    policies
}

#[test]
fn every_node_of_every_quantized_model_runs_as_predicted() {
    let mut failed = Vec::new();
    for path in models() {
        let float = onnx::load(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        let (mut right, before) = (0, failed.len());
        for (what, policy) in policies(&float) {
            let made = quantized(&float, &policy).unwrap();
            let (wrong, agreed) = wrong(&made.emitted, policy.target);
            right += agreed;
            failed.extend(wrong.into_iter().map(|w| format!("{name} {:?} {what}: {w}", policy.target)));
        }
        println!("{name}: {right} nodes predicted right, {} wrong", failed.len() - before);
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn every_operator_whose_result_is_quantized_for_kernels_has_a_rule() {
    let rows = Kernels::OnnxRuntimeCpu.rules();
    let known = |op: &&&str| rows.iter().any(|row| row.ops.contains(*op));
    let unknown: Vec<_> = INTEGER_KERNELS.iter().filter(|op| !known(op)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}
