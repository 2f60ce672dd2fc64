//! The emitted graph against the float graph with Div, Round, Clip and Mul where it has Q/DQ.

use dfq_onnx::ir::{Graph, Node, Tensor, ValueId};
use dfq_onnx::plan::Target;
use dfq_onnx::quant::Grid;

use super::{Quantized, network, policies, quantized};
use crate::support::net::{run, same_outputs};
use crate::support::random_inputs;
use crate::targets;

/// Returns `clip(round(x / s) + z, lo, hi) * s - z * s` of the student's tensor `name`, read by all that read it.
fn fake_quantize(graph: &mut Graph, name: &str, grid: &Grid) {
    let x = graph.find(name).unwrap();
    let readers: Vec<usize> = (0..graph.nodes.len()).filter(|&i| graph.nodes[i].inputs.contains(&Some(x))).collect();
    let (lo, hi) = grid.scheme.int_range();
    let zero = grid.zero_point[0];
    let mut at = x;
    let mut step = |graph: &mut Graph, op: &str, values: &[f32]| {
        let mut inputs = vec![at];
        inputs.extend(values.iter().map(|&v| graph.add_constant(&format!("{name}_{op}"), Tensor::from_f32(&[], &[v]))));
        at = graph.add_value(&format!("{name}_{op}_y"));
        graph.nodes.push(Node::new(op, inputs, [at], []));
    };
    step(graph, "Div", &grid.scale[..1]);
    step(graph, "Round", &[]);
    step(graph, "Clip", &[(lo - zero) as f32, (hi - zero) as f32]);
    step(graph, "Mul", &grid.scale[..1]);
    for i in readers {
        graph.nodes[i].inputs.iter_mut().filter(|input| **input == Some(x)).for_each(|input| *input = Some(at));
    }
}

/// Returns the student with values on the grids of the plan, none of it written with Q/DQ.
fn reference(made: &Quantized) -> Graph {
    let mut graph = made.float.clone();
    for (activation, grid) in made.plan.activations.iter().zip(&made.solution.activations) {
        for name in &activation.quantized {
            fake_quantize(&mut graph, name, grid);
        }
    }
    for layer in &made.plan.layers {
        let output = graph.find(&layer.output);
        let node = graph.nodes.iter().position(|n| n.output(0) == output).unwrap();
        let weight = &made.solution.weights[layer.weight.unwrap()];
        let values = Tensor::from_f32(&weight.shape, &weight.dequantize());
        let id = graph.add_constant("weight", values);
        let bias: Option<ValueId> = graph.nodes[node].input(2);
        graph.nodes[node].inputs[1] = Some(id);
        let Some(bias) = bias.filter(|_| made.plan.target.choices().quantizes_biases) else { continue };
        let values = graph.constant_of(bias).unwrap().to_f32().unwrap();
        let x_scale = made.solution.activations[layer.input].scale[0];
        let scale = |c: usize| x_scale * weight.grid.scale[if weight.grid.scale.len() == 1 { 0 } else { c }];
        let rounded: Vec<f32> =
            values.iter().enumerate().map(|(c, &b)| (b / scale(c)).round_ties_even() * scale(c)).collect();
        let id = graph.add_constant("bias", Tensor::from_f32(&[rounded.len()], &rounded));
        graph.nodes[node].inputs[2] = Some(id);
    }
    for layer in &made.plan.weight_only {
        let output = graph.find(&layer.output);
        let node = graph.nodes.iter().position(|n| n.output(0) == output).unwrap();
        let weight = &made.solution.weights[layer.weight];
        let id = graph.add_constant("weight", Tensor::from_f32(&weight.shape, &weight.dequantize()));
        graph.nodes[node].inputs[1] = Some(id);
    }
    graph.sort().unwrap();
    graph
}

#[test]
fn emitted_graphs_compute_what_their_grids_say() {
    let mut failed = Vec::new();
    let mut cases: Vec<_> = policies().into_iter().map(|(name, policy)| (name, policy, network())).collect();
    for weight_bits in [8, 4] {
        let policy = targets::policy(Target::TensorRt, weight_bits, 8);
        cases.push((format!("w{weight_bits}a8 TensorRt"), policy, targets::network()));
    }
    for (name, policy, graph) in cases {
        let made = quantized(&graph, &policy).unwrap();
        let inputs = random_inputs(&graph, 4, 9);
        let expected = run(&reference(&made), &inputs).unwrap()[0].to_f32().unwrap();
        let found = run(&made.emitted, &inputs).unwrap()[0].to_f32().unwrap();
        let last = made.plan.layers.last().unwrap();
        let weight = &made.solution.weights[last.weight.unwrap()];
        let largest = weight.dequantize().iter().fold(0.0f32, |m, w| m.max(w.abs()));
        // A tie that falls the other way moves one input of the last layer by one step.
        let step = made.solution.activations[last.input].scale[0] * largest;
        let worst = found.iter().zip(&expected).map(|(f, e)| (f - e).abs()).fold(0.0, f32::max);
        if worst > step || !worst.is_finite() {
            failed.push(format!("{name}: off by {worst}, one step is {step}"));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn a_near_dead_channel_keeps_its_bias() {
    let graph = network();
    for (name, policy) in policies().into_iter().filter(|(_, p)| p.weight_bits == 8 && p.activation_bits == 8) {
        let made = quantized(&graph, &policy).unwrap();
        let id = made.emitted.find("c3_b_dequantized").unwrap();
        let dequantize = made.emitted.nodes.iter().find(|n| n.output(0) == Some(id)).unwrap();
        let constant = |i: usize| made.emitted.constant_of(dequantize.input(i).unwrap()).unwrap();
        let scale = constant(1).to_f32().unwrap();
        let float = graph.constant_of(graph.find("c3_b").unwrap()).unwrap().to_f32().unwrap();
        let stored = constant(0).to_i64().unwrap()[2] as f32 * scale[if scale.len() == 1 { 0 } else { 2 }];
        assert!((stored - float[2]).abs() < 1e-3, "{name}: {stored} for {}", float[2]);
        // 8 bits leave about 2 % on a network of this depth.
        same_outputs(&graph, &made.emitted, 0.08).unwrap_or_else(|message| panic!("{name}: {message}"));
    }
}
