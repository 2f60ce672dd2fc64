//! What a plan says of shared tensors, seen in the emitted file.

use dfq_onnx::ir::Graph;
use dfq_onnx::plan::{LayerBits, Policy, Target};

use super::{bits, chain, conv, small};
use crate::support::net::{pads, run, same_outputs, with_dynamic_batch};
use crate::support::quantized::quantized;
use crate::support::random_inputs;

/// Two convolutions with one weight, between two others.
fn sharing() -> Graph {
    small(|g| {
        conv(g, "x", "c1");
        g.node("Relu", "c1", "r1", []);
        conv(g, "r1", "c2");
        g.node("Relu", "c2", "r2", []);
        g.node("Conv", "r2 c2_w", "c3", pads(1));
        g.node("Relu", "c3", "r3", []);
        conv(g, "r3", "y");
    })
}

#[test]
fn a_shared_weight_is_written_once_unless_its_layers_differ_in_bits() {
    let mut failed = Vec::new();
    for (name, own, copies) in [("same bits", None, 1), ("other bits", Some(6), 2)] {
        let graph = with_dynamic_batch(sharing());
        let layer_bits = own.map(|bits| ("c3".to_owned(), LayerBits::both(bits))).into_iter().collect();
        let made = quantized(&graph, &Policy { layer_bits, ..bits(8, 8) }).unwrap();
        let found = made.plan.weights.iter().filter(|w| w.tensor == "c2_w").count();
        let weight = |output: &str| {
            let id = made.emitted.find(output);
            made.emitted.nodes.iter().find(|n| n.output(0) == id).unwrap().input(1)
        };
        if found != copies || (weight("c2") == weight("c3")) != (copies == 1) {
            failed.push(format!("{name}: {found} grids"));
        }
        // Noise goes beyond ranges that are those of images, by 10 % of the output; a wrong weight leaves an error of 100 %.
        if let Err(message) = same_outputs(&graph, &made.emitted, 0.2) {
            failed.push(format!("{name}: {message}"));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn a_graph_output_that_a_layer_reads_reaches_the_caller_in_float() {
    let mut graph = chain();
    graph.outputs.push(graph.find("r1").unwrap());
    for target in [Target::Onnx, Target::OrtCpu] {
        let made = quantized(&graph, &Policy { target, ..bits(8, 2) }).unwrap();
        let names: Vec<&str> = made.emitted.outputs.iter().map(|&id| made.emitted.name_of(id)).collect();
        assert_eq!(names, ["y", "r1"]);
        let reads = |name: &str| {
            let id = made.emitted.find(name).unwrap();
            made.emitted.nodes.iter().any(|n| n.is("Conv") && n.input(0) == Some(id))
        };
        assert!(reads("r1_dequantized") && !reads("r1"));
        let found = run(&made.emitted, &random_inputs(&graph, 2, 1)).unwrap();
        let mut values = found[1].to_f32().unwrap();
        values.sort_by(f32::total_cmp);
        values.dedup();
        assert!(values.len() > 4, "the values are on the grid of 2 bits");
    }
}
