//! What recipes make of whole nets.

use dfq_onnx::ir::{Attr, Graph};
use dfq_onnx::onnx;
use dfq_onnx::plan::Policy;
use dfq_onnx::recipes::RECIPES;
use dfq_onnx::stats::{InputStatistics, guess_input, read_batch_norms};

use crate::support::build::Build;
use crate::support::net::{layer, pads, run};
use crate::support::quantized::{quantized_by, quantized_with};
use crate::support::{fixture, relative_rms};

/// A small convolutional net with a depthwise layer, a residual sum and a ConvTranspose.
fn net() -> Graph {
    let mut g = Build::at(17);
    g.input("x", &[8, 3, 8, 8]);
    layer(&mut g, "Conv", "x", "a", &[8, 3, 3, 3], 8, pads(1));
    g.node("Relu", "a", "ar", []);
    layer(&mut g, "Conv", "ar", "b", &[8, 1, 3, 3], 8, [("group", 8i64.into()), pads(1)[0].clone()]);
    g.node("Relu", "b", "br", []);
    layer(&mut g, "Conv", "br", "c", &[8, 8, 1, 1], 8, []);
    g.node("Add", "c ar", "s", []);
    g.node("Relu", "s", "sr", []);
    layer(&mut g, "ConvTranspose", "sr", "t", &[8, 4, 2, 2], 4, [("strides", vec![2i64, 2].into())]);
    g.node("Relu", "t", "tr", []);
    layer(&mut g, "Conv", "tr", "y", &[2, 4, 3, 3], 2, []);
    g.outputs("y")
}

/// Returns the relative error of the first output on synthetic inputs that the recipe has not seen.
fn error(graph: &Graph, input: &InputStatistics, policy: &Policy, recipe: &str) -> f64 {
    let made = quantized_by(graph, policy, recipe).unwrap();
    let inputs = input.synthetic(graph, 32, 77, 1).unwrap();
    let pieces = if graph.find("s").is_some() { 8 } else { 32 };
    let inputs: Vec<_> = inputs.iter().map(|t| t.rows(0..pieces).unwrap()).collect();
    let (expected, found) = (run(graph, &inputs).unwrap(), run(&made.emitted, &inputs).unwrap());
    relative_rms(&found[0], &expected[0])
}

#[test]
fn every_recipe_stays_near_the_float_model_on_every_kind_of_grid() {
    let graph = net();
    let mut failed = Vec::new();
    for recipe in RECIPES {
        for (name, per_channel, symmetric) in
            [("per channel", true, true), ("per tensor", false, true), ("affine", true, false)]
        {
            let policy = Policy { per_channel, symmetric, ..Policy::default() };
            let found = error(&graph, &InputStatistics::assumed(), &policy, recipe.name);
            // 8 bits leave about 1 % a layer; a wrong scale or bias leaves tens of percent.
            if found > 0.05 {
                failed.push((recipe.name, name, found));
            }
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn rounding_against_covariances_beats_rounding_to_nearest_at_four_bits() {
    let mut failed = Vec::new();
    for name in ["digits_resnet8.onnx", "digits_mobilenet.onnx"] {
        let graph = onnx::load(&fixture(name)).unwrap();
        let input = guess_input(&graph, &read_batch_norms(&graph));
        let policy = Policy { weight_bits: 4, all_layers: true, ..Policy::default() };
        let [fast, nearest] = ["fast", "nearest"].map(|recipe| error(&graph, &input, &policy, recipe));
        if fast > 0.8 * nearest {
            failed.push((name, fast, nearest));
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn the_same_seed_gives_the_same_integers_and_biases_with_any_number_of_threads() {
    let policy = Policy { weight_bits: 4, ..Policy::default() };
    let fixture = onnx::load(&fixture("digits_mobilenet.onnx")).unwrap();
    let mut failed = Vec::new();
    for (name, graph) in [("net", &net()), ("mobilenet", &fixture), ("one wide layer", &wide())] {
        let make = |threads| quantized_with(graph, &policy, "fast", threads).unwrap().solution;
        let expected = make(1);
        for threads in [1, 2, 5] {
            let found = make(threads);
            let same = found.weights == expected.weights
                && found.activations == expected.activations
                && found.biases == expected.biases
                && found.steps == expected.steps;
            if !same {
                failed.push((name, threads));
            }
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

/// A layer with so many weights that threads share it, between two small ones.
fn wide() -> Graph {
    let mut g = Build::at(17);
    g.input("x", &[2, 16]);
    layer(&mut g, "Gemm", "x", "a", &[16, 1100], 1100, []);
    g.node("Relu", "a", "ar", []);
    layer(&mut g, "Gemm", "ar", "b", &[1100, 1000], 1000, []);
    g.node("Relu", "b", "br", []);
    layer(&mut g, "Gemm", "br", "y", &[1000, 10], 10, []);
    g.outputs("y")
}

#[test]
fn every_layer_is_told_how_it_was_rounded_and_whether_its_bias_was_corrected() {
    let mut graph = net();
    let transposed = graph.nodes.iter_mut().find(|node| node.is("ConvTranspose")).unwrap();
    transposed.set("auto_pad", Attr::String("SAME_UPPER".into()));
    let made = quantized_by(&graph, &Policy::default(), "fast").unwrap();
    let told = |step: &str| -> Vec<(String, bool)> {
        let steps = made.solution.steps.iter().filter(|s| s.step == step);
        steps.map(|s| (s.layer.clone(), s.refused.is_none())).collect()
    };
    let expected = |refused: &str| -> Vec<(String, bool)> {
        made.plan.layers.iter().map(|l| (l.name.clone(), l.output != refused)).collect()
    };
    assert_eq!(told("rounding"), expected("t"));
    assert_eq!(told("bias"), expected(""));
}
