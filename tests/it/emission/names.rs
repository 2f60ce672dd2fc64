//! Names of nodes in emitted files.

use std::collections::BTreeSet;

use dfq_onnx::plan::{Policy, Target};

use super::{network, quantized};
use crate::support::net::run;
use crate::support::random_inputs;

#[test]
fn nodes_have_names_of_their_own_whatever_the_original_calls_its() {
    let mut failed = Vec::new();
    for target in [Target::Onnx, Target::OrtCpu] {
        let policy = Policy { target, ..Policy::default() };
        for made_up in ["x", "same", "x_quantized_node", "x_dequantized_node", "c1_w_dequantized_node", ""] {
            let mut float = network();
            float.nodes.iter_mut().take(3).for_each(|node| node.name = made_up.to_owned());
            let emitted = quantized(&float, &policy).unwrap().emitted;
            let named: Vec<&str> =
                emitted.nodes.iter().map(|node| node.name.as_str()).filter(|n| !n.is_empty()).collect();
            if named.iter().collect::<BTreeSet<_>>().len() != named.len() {
                failed.push(format!("{target:?}, \"{made_up}\": {named:?}"));
            }
            if !made_up.is_empty() && !named.contains(&made_up) {
                failed.push(format!("{target:?}, \"{made_up}\": the name of the original is gone"));
            }
            failed.extend(run(&emitted, &random_inputs(&float, 2, 1)).err());
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
