//! Channels that died beside ordinary biases, where biases are float in the file.

use dfq_onnx::ir::{Graph, Tensor};
use dfq_onnx::plan::Target;

use super::policy;
use crate::support::build::Build;
use crate::support::net::{layer, pads, run, run_optimised};
use crate::support::quantized::quantized;
use crate::support::{random_inputs, relative_rms};

/// Eight bits of weights and activations through two layers.
const CLOSE: f64 = 0.05;

/// Channel 3 of the first layer has weights of 1e-9 beside a bias of 1.5, or no weights at all.
fn with_dead_channel(op: &str, scale: f32) -> Graph {
    let mut g = Build::at(17);
    match op {
        "Conv" => {
            g.input("x", &[2, 16, 8, 8]);
            layer(&mut g, "Conv", "x", "c1", &[16, 16, 3, 3], 16, pads(1));
            g.node("Relu", "c1", "r1", []);
            layer(&mut g, "Conv", "r1", "y", &[16, 16, 1, 1], 16, []);
        }
        _ => {
            g.input("x", &[2, 6, 32]);
            layer(&mut g, "MatMul", "x", "m1", &[32, 32], 0, []);
            g.constant("c1_b", Tensor::from_f32(&[32], &[0.1; 32]));
            g.node("Add", "m1 c1_b", "c1", []);
            g.node("Relu", "c1", "r1", []);
            layer(&mut g, "MatMul", "r1", "y", &[32, 32], 0, []);
        }
    }
    let mut graph = g.outputs("y");
    let (weight, by_row) = if op == "Conv" { ("c1_w", true) } else { ("m1_w", false) };
    change(&mut graph, weight, |i, shape, v| {
        let channel = if by_row { i / (shape.iter().skip(1).product::<usize>()) } else { i % shape[1] };
        if channel == 3 { v * scale } else { v }
    });
    change(&mut graph, "c1_b", |i, _, v| if i == 3 { 1.5 } else { v });
    graph
}

fn change(graph: &mut Graph, name: &str, change: impl Fn(usize, &[usize], f32) -> f32) {
    let id = graph.find(name).unwrap();
    let old = graph.constant_of(id).unwrap();
    let shape = old.shape().to_vec();
    let values: Vec<f32> = old.to_f32().unwrap().iter().enumerate().map(|(i, &v)| change(i, &shape, v)).collect();
    graph.value_mut(id).constant = Some(Tensor::from_f32(&shape, &values));
}

#[test]
fn dead_channels_keep_their_bias_when_onnx_runtime_makes_it_an_integer() {
    let mut failed = Vec::new();
    for target in Target::ALL {
        for (op, scale) in [("Conv", 1e-9), ("Conv", 0.0), ("Conv", 1e-30), ("MatMul", 1e-9), ("MatMul", 1e-30)] {
            let float = with_dead_channel(op, scale);
            let inputs = random_inputs(&float, 2, 1);
            let expected = run(&float, &inputs).unwrap();
            let emitted = quantized(&float, &policy(target, 8, 8)).unwrap().emitted;
            let runs = [("as written", run(&emitted, &inputs)), ("optimised", run_optimised(&emitted, &inputs))];
            for (mode, found) in runs.map(|(mode, found)| (mode, found.unwrap())) {
                let error = relative_rms(&found[0], &expected[0]);
                if error > CLOSE {
                    failed.push(format!("{target:?}, {op} times {scale:e}, {mode}: {error:.3}"));
                }
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
