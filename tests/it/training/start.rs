//! What training starts from, and what becomes of a solution behind it.

use dfq_onnx::ir::{Graph, Tensor};
use dfq_onnx::onnx;
use dfq_onnx::plan::{Layer, Policy, Target};
use dfq_onnx::quant::quantize_bias;
use dfq_onnx::solution::{Solution, Solved};
use dfq_onnx::train::Student;

use super::models;
use super::settled::{at, moved, settled};
use crate::support::quantized::{quantized, quantized_by};
use crate::support::{fixture, ort};
use crate::{emission, targets};

#[test]
fn biases_of_channels_next_to_dead_fit_int32_after_training_too() {
    let policy = Policy { target: Target::OrtCpu, ..Policy::default() };
    let made = quantized(&emission::network(), &policy).unwrap();
    let student = Student::new(&made.float, &made.plan, &made.solution).unwrap();
    let [weights, scales] = student.start();
    let (mut failed, mut checked) = (Vec::new(), 0);
    for shrunk in [0.0, 1.0, 5.0] {
        let values: Vec<f32> = scales.to_f32().unwrap().iter().map(|s| s - shrunk).collect();
        let vectors = [weights.clone(), Tensor::from_f32(scales.shape(), &values)];
        let Solved { float, plan, solution, .. } = settled(&made, &student, &vectors, ort()).unwrap();
        for layer in &plan.layers {
            let Some(weight) = layer.weight else { continue };
            let (x, w) = (solution.activations[layer.input].scale[0], &solution.weights[weight].grid.scale);
            // Integer kernels take the scale of the bias for the product of the other two.
            let bias = bias(&float, &solution, layer);
            if bias.is_empty() {
                continue;
            }
            let fitting = quantize_bias(&bias, x, w).weight_scale;
            checked += 1;
            if fitting != *w {
                failed.push(format!("{}, steps e^-{shrunk}: {w:?}, fitting {fitting:?}", layer.name));
            }
        }
    }
    assert!(failed.is_empty() && checked >= 9, "{failed:#?}");
}

#[test]
fn training_starts_from_the_integers_scales_and_biases_that_the_recipe_found() {
    let mut failed = Vec::new();
    let digits = onnx::load(&fixture("digits_resnet8.onnx")).unwrap();
    for recipe in ["nearest", "fast", "squant", "dfq2019"] {
        for (name, graph) in [("digits", &digits), ("all operators", &emission::network())] {
            for bits in [(8, 8), (4, 4), (2, 4)] {
                let made = quantized_by(graph, &at(bits, Policy::default()), recipe).unwrap();
                let student = Student::new(&made.float, &made.plan, &made.solution).unwrap();
                let Solved { float, solution, .. } = settled(&made, &student, &student.start(), ort()).unwrap();
                let mut wrong = Vec::new();
                for (found, expected) in solution.weights.iter().zip(&made.solution.weights) {
                    let same = found.bytes == expected.bytes && found.grid.zero_point == expected.grid.zero_point;
                    wrong.extend((!same || !near(&found.grid.scale, &expected.grid.scale)).then_some("a weight"));
                }
                for (found, expected) in solution.activations.iter().zip(&made.solution.activations) {
                    let same = found.zero_point == expected.zero_point && near(&found.scale, &expected.scale);
                    wrong.extend((!same).then_some("a grid"));
                }
                let of = |solution: &Solution| -> Vec<Vec<f32>> {
                    made.plan.layers.iter().map(|layer| bias(&float, solution, layer)).collect()
                };
                wrong.extend((of(&solution) != of(&made.solution)).then_some("a bias"));
                wrong.extend((constants(&float) != constants(&made.float)).then_some("a constant"));
                wrong.dedup();
                failed.extend((!wrong.is_empty()).then(|| format!("{recipe}, {name} {bits:?}: {wrong:?} is another")));
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

/// Steps pass through a logarithm and back.
fn near(found: &[f32], expected: &[f32]) -> bool {
    found.len() == expected.len() && found.iter().zip(expected).all(|(f, e)| (f - e).abs() <= 4e-6 * e)
}

#[test]
fn training_changes_the_biases_of_the_solution_and_leaves_the_float_network_as_it_is() {
    let graph = onnx::load(&fixture("digits_resnet8.onnx")).unwrap();
    let made = quantized_by(&graph, &at((4, 4), Policy::default()), "fast").unwrap();
    assert!(!made.solution.biases.is_empty());
    let student = Student::new(&made.float, &made.plan, &made.solution).unwrap();
    let after = settled(&made, &student, &moved(&student.start(), 3), ort()).unwrap();
    assert_eq!(constants(&after.float), constants(&made.float));
    let changed = |layer: &&Layer| after.solution.biases[&layer.output] != bias(&made.float, &made.solution, layer);
    assert_eq!(made.plan.layers.iter().filter(changed).count(), made.plan.layers.len());
}

fn constants(graph: &Graph) -> Vec<Option<Tensor>> {
    graph.value_ids().map(|id| graph.constant_of(id).cloned()).collect()
}

/// Returns the bias that a layer has in the quantized network.
fn bias(float: &Graph, solution: &Solution, layer: &Layer) -> Vec<f32> {
    let own = || float.maker(&layer.output).and_then(|node| float.constant_of(node.input(2)?));
    solution.biases.get(&layer.output).cloned().or_else(|| own()?.to_f32().ok()).unwrap_or_default()
}

#[test]
fn a_plan_or_solution_for_another_network_is_refused_by_the_tensor_it_names() {
    let made = quantized(&emission::network(), &Policy::default()).unwrap();
    let mut short = made.solution.clone();
    short.weights.truncate(1);
    let cases = [
        ("lacking tensors", &models::attention(), &made.solution, "which the graph lacks"),
        ("other shapes", &targets::network(), &made.solution, "the weight \"c1_w\" is [16, 4, 3, 3]"),
        ("too few weights", &made.float, &short, "the solution has None for it"),
    ];
    let mut failed = Vec::new();
    for (name, graph, solution, text) in cases {
        match Student::new(graph, &made.plan, solution) {
            Err(error) if error.to_string().contains(text) && error.exit_code() == 3 => {}
            other => failed.push(format!("{name}: {:?}", other.map(|_| ()))),
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
