//! Blocks that are reconstructed: what their steps start from, descend, and come to.

use dfq_onnx::autodiff::gradients;
use dfq_onnx::expr::{Builder, Expr};
use dfq_onnx::ir::{DType, Graph, Tensor};
use dfq_onnx::onnx;
use dfq_onnx::plan::Policy;
use dfq_onnx::runtime::{Engine, SessionOptions, TractEngine};
use dfq_onnx::solution::Solved;
use dfq_onnx::train::losses::{channel_normalized_mse, rounding_regularizer};
use dfq_onnx::train::{Block, Reconstruction, SettledParts, Student, TrainedParameters, TrainingStep, blocks, targets};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::settled::at;
use crate::support::net::normal;
use crate::support::quantized::{Quantized, quantized_by};
use crate::support::{fixture, ort};

const BATCH: usize = 4;

fn made(model: &str, bits: (u32, u32)) -> Quantized {
    made_by(model, &at(bits, Policy::default()))
}

fn made_by(model: &str, policy: &Policy) -> Quantized {
    let graph = onnx::load(&fixture(&format!("{model}.onnx"))).unwrap();
    quantized_by(&graph, &Policy { all_layers: true, ..policy.clone() }, "fast").unwrap()
}

fn solved(made: &Quantized) -> Solved {
    let Quantized { float: student, plan, solution, .. } = made;
    Solved { float: student.clone(), plan: plan.clone(), solution: solution.clone(), norms: Vec::new() }
}

fn student(solved: &Solved) -> Student {
    Student::new(&solved.float, &solved.plan, &solved.solution).unwrap()
}

fn blocks_of(student: &Student) -> Vec<Block> {
    let target = targets(student.graph()).tensors.remove(0).tensor;
    blocks(student.graph(), student.graph().find(&target).unwrap())
}

/// Returns random numbers for an input of `graph`.
fn numbers(graph: &Graph, name: &str, seed: u64) -> Tensor {
    let id = graph.find(name).unwrap();
    let rest = graph.value(id).shape.as_ref().unwrap().iter().skip(1).map(|dim| dim.known().unwrap());
    normal(&std::iter::once(BATCH).chain(rest).collect::<Vec<_>>(), 1.0, seed)
}

/// Returns the state behind one step from `state` at a learning rate of `rate`, and the loss and what is unsettled.
fn stepped(
    engine: &dyn Engine,
    step: &TrainingStep,
    state: &[(String, Tensor)],
    feeds: &[Tensor],
    rate: f64,
) -> (Vec<(String, Tensor)>, [f32; 2]) {
    let mut session = engine.load_steps(&[&step.graph], state, &SessionOptions::default()).unwrap();
    session.step(0, &[feeds, &[step.rates(&[rate], 0)]].concat()).unwrap();
    let names = step.state.iter().enumerate();
    let state: Vec<_> = names.map(|(i, (name, _))| (name.clone(), session.read(i).unwrap())).collect();
    let losses = dfq_onnx::train::entry(&state, step.losses_entry()).unwrap().to_f32().unwrap();
    (state, [losses[losses.len() - 2], losses[losses.len() - 1]])
}

fn masks(reconstruction: &Reconstruction, value: f32) -> Vec<Tensor> {
    let shapes = reconstruction.masked(BATCH).unwrap();
    shapes.iter().map(|shape| Tensor::from_f32(shape, &vec![value; shape.iter().product()])).collect()
}

#[test]
fn blocks_whose_weights_are_settled_compute_what_the_student_computes_that_is_read_out() {
    let mut failed = Vec::new();
    let plain = Policy::default;
    let cases = [
        ("digits_resnet8", at((4, 4), plain())),
        ("digits_mobilenet", at((3, 5), plain())),
        ("digits_mobilenet", at((3, 5), Policy { symmetric: false, ..plain() })),
        ("digits_mobilenet", at((4, 5), Policy { per_channel: false, ..plain() })),
    ];
    for (model, policy) in cases {
        let made = made_by(model, &policy);
        let mut solved = solved(&made);
        let found = blocks_of(&student(&solved));
        assert!(found.len() > 3, "{model}: {found:?}");
        let mut settled = SettledParts::default();
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        for (number, block) in found.iter().enumerate() {
            let before = student(&solved);
            let reconstruction = Reconstruction::new(&before, block, &settled).unwrap();
            assert!(reconstruction.layers() > 0, "{model}: {block:?}");
            settled = reconstruction.settles(&settled);
            for engine in [ort() as &dyn Engine, &TractEngine] {
                let step = reconstruction.step(BATCH, &engine.lowering()).unwrap();
                // Every weight is rounded up or down by a coin, and steps and biases have moved.
                let state: Vec<(String, Tensor)> = step
                    .state
                    .iter()
                    .map(|(name, start)| {
                        let values = start.to_f32().unwrap().into_iter();
                        let values: Vec<f32> = match name.as_str() {
                            "rounding" => values.map(|_| if rng.random() { 9.0 } else { -9.0 }).collect(),
                            "scales" | "shifts" => values.map(|v| v + rng.random_range(-0.1..0.1)).collect(),
                            _ => values.collect(),
                        };
                        (name.clone(), Tensor::from_f32(start.shape(), &values))
                    })
                    .collect();
                let mut trained = TrainedParameters::of(&solved.solution);
                reconstruction.read_out(&state, &mut trained).unwrap();
                let mut after = solved.clone();
                after.apply_trained(trained).unwrap();
                let after = student(&after);
                let part = after.part_graph(Some(&block.input), &block.output, BATCH).unwrap();
                let x = numbers(before.graph(), &block.input, 7);
                let [weights, scales] = after.start();
                let y =
                    engine.load(&part, &SessionOptions::default()).unwrap().run(&[weights, scales, x.clone()]).unwrap();
                let annealing = Tensor::from_f32(&[3], &[2.0, 1.0, 1.0]);
                let feeds = |mask: f32| {
                    [vec![x.clone(), y[0].clone(), annealing.clone()], masks(&reconstruction, mask)].concat()
                };
                let (_, [quantized, open]) = stepped(engine, &step, &state, &feeds(1.0), 0.0);
                let (_, [float, _]) = stepped(engine, &step, &state, &feeds(0.0), 0.0);
                // A tie of rounding may fall the other way.
                if quantized > 1e-3 || open > 1e-3 || float <= quantized && !masks(&reconstruction, 1.0).is_empty() {
                    failed.push(format!("{model}, block {number}, {}: {quantized}, {open}, {float}", engine.name()));
                }
                if engine.name() == ort().name() {
                    let mut trained = TrainedParameters::of(&solved.solution);
                    reconstruction.read_out(&step.state, &mut trained).unwrap();
                    for (found, expected) in trained.weights.iter().zip(&solved.solution.weights) {
                        let far = |&i: &usize| (found.integer(i) - expected.integer(i)).abs() > 1;
                        let far = (0..found.bytes.len()).filter(far).count();
                        if far > 0 {
                            failed.push(format!("{model}, block {number}: {far} start elsewhere"));
                        }
                    }
                }
            }
            let mut trained = TrainedParameters::of(&solved.solution);
            let step = reconstruction.step(BATCH, &ort().lowering()).unwrap();
            reconstruction.read_out(&step.state, &mut trained).unwrap();
            solved.apply_trained(trained).unwrap();
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn a_block_learns_and_its_weights_settle() {
    let made = made("digits_resnet8", (3, 4));
    let solved = solved(&made);
    let student = student(&solved);
    let block = &blocks_of(&student)[1];
    let reconstruction = Reconstruction::new(&student, block, &SettledParts::default()).unwrap();
    let step = reconstruction.step(BATCH, &ort().lowering()).unwrap();
    let float = dfq_onnx::train::segment(&made.float, block).unwrap();
    let x = numbers(student.graph(), &block.input, 1);
    let y = ort().load(&float, &SessionOptions::default()).unwrap().run(std::slice::from_ref(&x)).unwrap().remove(0);
    let mut state = step.state.clone();
    let mut losses = Vec::new();
    for number in 0..120u16 {
        let sharpness = 30f32.powf(f32::from(number.saturating_sub(60)) / 60.0);
        let annealing = if number < 60 { [20.0, 0.0, 1.0] } else { [2.0, 1.0, sharpness] };
        let feeds =
            [vec![x.clone(), y.clone(), Tensor::from_f32(&[3], &annealing)], masks(&reconstruction, 1.0)].concat();
        let (next, found) = stepped(ort(), &step, &state, &feeds, 0.01);
        state = next;
        losses.push(found);
    }
    assert!(losses[59][0] < 0.5 * losses[0][0], "{losses:?}");
    assert!(losses[119][1] < 0.2 * losses[60][1], "{losses:?}");
}

type Loss = for<'b> fn(Expr<'b>, Expr<'b>) -> Expr<'b>;

#[test]
fn losses_of_blocks_are_those_of_the_formulas_and_slope_as_their_differences_do() {
    // Shape [2, 3, 4], of which the second are channels.
    let channel = |v: &[f64], c: usize| -> Vec<f64> { (0..8).map(|i| v[i / 4 * 12 + c * 4 + i % 4]).collect() };
    let variance = |v: &[f64]| {
        let mean = v.iter().sum::<f64>() / 8.0;
        v.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 8.0
    };
    let squares = |a: &[f64], b: &[f64]| {
        let least = (0..3).map(|c| variance(&channel(b, c))).sum::<f64>() / 3.0 * 1e-3;
        let share = |c: usize| {
            let (a, b) = (channel(a, c), channel(b, c));
            let squares: f64 = a.iter().zip(&b).map(|(a, b)| (a - b).powi(2)).sum();
            squares / 8.0 / (variance(&b) + least)
        };
        (0..3).map(share).sum::<f64>() / 3.0
    };
    let of_one_row = |a: &[f64], b: &[f64]| {
        let mean = b.iter().sum::<f64>() / b.len() as f64;
        let varies: f64 = b.iter().map(|b| (b - mean).powi(2)).sum();
        a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>() / varies
    };
    let open = |h: &[f64], b: &[f64]| h.iter().map(|h| 1.0 - ((2.0 * h - 1.0).abs() + 1e-6).powf(b[0])).sum::<f64>();
    type Host<'a> = &'a dyn Fn(&[f64], &[f64]) -> f64;
    let near = |seed| -> Vec<f32> { normal(&[2, 3, 4], 0.2, seed).to_f32().unwrap().iter().map(|v| v + 0.3).collect() };
    let all = &[2, 3, 4][..];
    let cases: [(&str, Loss, Host, &[usize], Tensor); 4] = [
        ("squares", channel_normalized_mse, &squares, all, Tensor::from_f32(all, &near(5))),
        ("squares of one row", channel_normalized_mse, &of_one_row, &[1, 6], Tensor::from_f32(&[1, 6], &near(5)[..6])),
        ("unsettled", rounding_regularizer, &open, all, Tensor::from_f32(&[], &[2.0])),
        ("rounding_regularizer, steep", rounding_regularizer, &open, all, Tensor::from_f32(&[], &[7.5])),
    ];
    let mut failed = Vec::new();
    for (name, loss, host, shape, other) in cases {
        let builder = Builder::new("loss");
        let x = builder.input("x", DType::F32, shape);
        let given = builder.input("other", DType::F32, other.shape());
        let found = loss(x, given);
        let slope = gradients(found, &[x]).unwrap()[0];
        let graph = builder.finish(&[("loss", found), ("slope", slope)]).unwrap();
        let values = near(1)[..shape.iter().product()].to_vec();
        let wide = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>();
        let (at, with) = (wide(&values), wide(&other.to_f32().unwrap()));
        for engine in [ort() as &dyn Engine, &TractEngine] {
            let inputs = [Tensor::from_f32(shape, &values), other.clone()];
            let made = engine.load(&graph, &SessionOptions::default()).unwrap().run(&inputs).unwrap();
            let (made, slopes) = (f64::from(made[0].to_f32().unwrap()[0]), wide(&made[1].to_f32().unwrap()));
            let expected = host(&at, &with);
            if (made - expected).abs() > 1e-5 * expected.abs().max(1.0) {
                failed.push(format!("{name}, {}: {made}, expected {expected}", engine.name()));
            }
            for i in 0..at.len() {
                let moved = |by: f64| {
                    let mut moved = at.clone();
                    moved[i] += by;
                    host(&moved, &with)
                };
                let expected = (moved(1e-6) - moved(-1e-6)) / 2e-6;
                if (slopes[i] - expected).abs() > 1e-4 * expected.abs().max(1.0) {
                    failed.push(format!("{name}, {}, slope {i}: {}, expected {expected}", engine.name(), slopes[i]));
                }
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
