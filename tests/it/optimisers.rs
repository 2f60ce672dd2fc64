//! Optimisers in both engines against PyTorch's own runs, one step after another, and flat vectors in graphs.

use dfq_onnx::autodiff::gradients;
use dfq_onnx::expr::{Builder, Expr};
use dfq_onnx::ir::{DType, Graph, Tensor};
use dfq_onnx::runtime::{Engine, SessionOptions, TractEngine};
use dfq_onnx::train::{Optimiser, Parameters};
use serde::Deserialize;

use crate::support::ort;

/// Two implementations of one formula in f64.
const IN_DOUBLE: f64 = 1e-13;
/// Twenty steps in f32 of elements around 1: some ten roundings.
const IN_SINGLE: f64 = 2e-6;

#[derive(Deserialize)]
struct Stored {
    initial: Vec<f64>,
    gradients: Vec<Vec<f64>>,
    rates: Vec<f64>,
    optimisers: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    optimiser: Optimiser,
    mask: Vec<f64>,
    /// After each step, in f64.
    parameters: Vec<Vec<f64>>,
}

fn stored() -> Stored {
    serde_json::from_str(include_str!("../../fixtures/torch_optimisers.json")).unwrap()
}

fn engines() -> [(&'static str, &'static dyn Engine); 2] {
    [("ONNX Runtime", ort()), ("tract", &TractEngine)]
}

fn vector(values: &[f64]) -> Tensor {
    Tensor::from_f32(&[values.len()], &values.iter().map(|&v| v as f32).collect::<Vec<_>>())
}

fn farthest(found: &[f64], expected: &[f64]) -> f64 {
    let distance = |(f, e): (&f64, &f64)| if f.is_finite() { (f - e).abs() } else { f64::INFINITY };
    found.iter().zip(expected).map(distance).fold(0.0, f64::max)
}

/// Returns one step over `n` parameters: parameters, moments, gradient, rates and mask in, parameters and moments out.
fn step(optimiser: &Optimiser, n: usize, mask: &[usize]) -> Graph {
    let builder = Builder::new("step");
    let input = |name: &str, shape: &[usize]| builder.input(name, DType::F32, shape);
    let p = input("p", &[n]);
    let moments: Vec<Expr> = (0..optimiser.moments()).map(|i| input(&format!("moment{i}"), &[n])).collect();
    let (g, rates, mask) = (input("g", &[n]), input("rates", &[optimiser.rate_count()]), input("mask", mask));
    let (p, moments) = optimiser.update(p, g, &moments, rates, mask);
    let names: Vec<String> = (0..moments.len()).map(|i| format!("next_moment{i}")).collect();
    let next = names.iter().map(String::as_str).zip(moments);
    builder.finish(&std::iter::once(("next_p", p)).chain(next).collect::<Vec<_>>()).unwrap()
}

fn rates(optimiser: &Optimiser, rate: f64, step: u64) -> Tensor {
    let rates = optimiser.rates(rate, step);
    Tensor::from_f32(&[rates.len()], &rates)
}

/// Returns the parameters after each step, by an engine that is fed what it returned.
fn walk(engine: &dyn Engine, case: &Case, mask: &Tensor, stored: &Stored) -> Vec<Vec<f64>> {
    let n = stored.initial.len();
    let graph = step(&case.optimiser, n, mask.shape());
    let mut session = engine.load(&graph, &SessionOptions::default()).unwrap();
    let mut state = vec![vector(&stored.initial)];
    state.resize(1 + case.optimiser.moments(), vector(&vec![0.0; n]));
    let mut path = Vec::new();
    for (t, (gradient, &rate)) in stored.gradients.iter().zip(&stored.rates).enumerate() {
        let fed = [vector(gradient), rates(&case.optimiser, rate, t as u64), mask.clone()];
        state = session.run(&[state, fed.to_vec()].concat()).unwrap();
        path.push(state[0].to_f32().unwrap().into_iter().map(f64::from).collect());
    }
    path
}

/// Returns one element after one step, by the published formulas with a step counter.
fn by_hand(optimiser: &Optimiser, p: f64, g: f64, moments: &mut [f64; 2], (rate, t): (f64, i32)) -> f64 {
    match *optimiser {
        Optimiser::Sgd { momentum, nesterov, weight_decay } => {
            let g = g + weight_decay * p;
            moments[0] = momentum * moments[0] + g;
            p - rate * if nesterov { g + momentum * moments[0] } else { moments[0] }
        }
        Optimiser::Adam { beta1, beta2, epsilon, weight_decay, decoupled } => {
            let (g, p) = if decoupled { (g, p * (1.0 - rate * weight_decay)) } else { (g + weight_decay * p, p) };
            moments[0] = beta1 * moments[0] + (1.0 - beta1) * g;
            moments[1] = beta2 * moments[1] + (1.0 - beta2) * g.powi(2);
            let m = moments[0] / (1.0 - beta1.powi(t));
            let v = moments[1] / (1.0 - beta2.powi(t));
            p - rate * m / (v.sqrt() + epsilon)
        }
    }
}

#[test]
fn formulas_in_double_precision_are_those_of_pytorch() {
    let stored = stored();
    let mut failed = Vec::new();
    for case in &stored.optimisers {
        let (mut p, mut moments) = (stored.initial.clone(), vec![[0.0; 2]; stored.initial.len()]);
        for (t, expected) in case.parameters.iter().enumerate() {
            for i in 0..p.len() {
                let rate = (stored.rates[t] * case.mask[i], i32::try_from(t).unwrap() + 1);
                p[i] = by_hand(&case.optimiser, p[i], stored.gradients[t][i], &mut moments[i], rate);
            }
            let distance = farthest(&p, expected);
            if distance > IN_DOUBLE {
                failed.push(format!("{}, step {t}: {distance:.1e}", case.name));
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn steps_of_the_graph_are_those_of_pytorch() {
    let stored = stored();
    let mut failed = Vec::new();
    for (engine_name, engine) in engines() {
        for case in &stored.optimisers {
            let path = walk(engine, case, &vector(&case.mask), &stored);
            for (t, (found, expected)) in path.iter().zip(&case.parameters).enumerate() {
                let distance = farthest(found, expected);
                if distance > IN_SINGLE {
                    failed.push(format!("{engine_name}, {}, step {t}: {distance:.1e}", case.name));
                }
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
    assert_eq!((stored.optimisers.len(), stored.gradients.len()), (12, 20));
}

#[test]
fn frozen_elements_keep_their_bits_and_a_single_factor_serves_all() {
    let stored = stored();
    let initial: Vec<f64> = vector(&stored.initial).to_f32().unwrap().into_iter().map(f64::from).collect();
    let mut failed = Vec::new();
    for (engine_name, engine) in engines() {
        for case in &stored.optimisers {
            let place = format!("{engine_name}, {}", case.name);
            let path = walk(engine, case, &vector(&case.mask), &stored);
            for (i, _) in case.mask.iter().enumerate().filter(|(_, factor)| **factor == 0.0) {
                if path.iter().any(|p| p[i].to_bits() != initial[i].to_bits()) {
                    failed.push(format!("{place}: element {i} moved"));
                }
            }
            let half = vec![0.5; case.mask.len()];
            let single = walk(engine, case, &Tensor::from_f32(&[], &[0.5]), &stored);
            if single != walk(engine, case, &vector(&half), &stored) {
                failed.push(format!("{place}: one factor for all is not that factor for each"));
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

fn layout(shapes: &[&[usize]]) -> Parameters {
    let mut parameters = Parameters::default();
    shapes.iter().enumerate().for_each(|(i, shape)| parameters.add(&format!("p{i}"), shape).unwrap());
    parameters
}

/// Returns `v -> (-t for every tensor t of v, joined; the gradient of Σ t³)`, the gradient by way of the tensors or of v.
fn split_and_join(parameters: &Parameters, by_tensor: bool) -> Graph {
    let builder = Builder::new("layout");
    let v = builder.input("v", DType::F32, &[parameters.len()]);
    let tensors = parameters.split(v);
    let negated: Vec<Expr> = tensors.iter().map(|&t| -t).collect();
    let loss = tensors.iter().map(|&t| (t * t * t).sum(&[], false)).fold(builder.scalar(0.0), |sum, t| sum + t);
    let gradient = match by_tensor {
        true => parameters.join(&builder, &gradients(loss, &tensors).unwrap()),
        false => gradients(loss, &[v]).unwrap()[0],
    };
    builder.finish(&[("negated", parameters.join(&builder, &negated)), ("gradient", gradient)]).unwrap()
}

#[test]
fn vectors_fall_into_tensors_and_gradients_join_alike() {
    let cases: [(&str, &[&[usize]]); 5] = [
        ("several", &[&[2, 3], &[], &[4], &[1, 2, 1, 2]]),
        ("one matrix", &[&[3, 2]]),
        ("one vector", &[&[5]]),
        ("one scalar", &[&[]]),
        ("two scalars", &[&[], &[]]),
    ];
    let mut failed = Vec::new();
    for (engine_name, engine) in engines() {
        for ((name, shapes), by_tensor) in cases.iter().flat_map(|case| [(case, true), (case, false)]) {
            let parameters = layout(shapes);
            let values: Vec<f64> = (0..parameters.len()).map(|i| 0.5 * i as f64 - 1.0).collect();
            let expected = [
                vector(&values.iter().map(|v| -v).collect::<Vec<_>>()),
                vector(&values.iter().map(|v| 3.0 * v * v).collect::<Vec<_>>()),
            ];
            let graph = split_and_join(&parameters, by_tensor);
            let session = engine.load(&graph, &SessionOptions::default());
            let found = session.and_then(|mut session| session.run(&[vector(&values)]));
            // Multiples of 1/4 below 64 are exact.
            if found.as_ref().ok() != Some(&expected.to_vec()) {
                failed.push(format!("{engine_name}, {name}, gradient by tensor {by_tensor}: {found:?}"));
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn nothing_to_train_is_a_vector_without_elements() {
    let parameters = Parameters::default();
    let builder = Builder::new("nothing");
    let v = builder.input("v", DType::F32, &[0]);
    assert!(parameters.split(v).is_empty());
    let joined = parameters.join(&builder, &[]).unary("Identity");
    let graph = builder.finish(&[("joined", joined)]).unwrap();
    let optimiser = Optimiser::Sgd { momentum: 0.9, nesterov: true, weight_decay: 0.1 };
    for (name, engine) in engines() {
        let nothing = vector(&[]);
        let mut session = engine.load(&graph, &SessionOptions::default()).unwrap();
        assert_eq!(session.run(std::slice::from_ref(&nothing)).unwrap()[0].shape(), [0], "{name}");
        let mut session = engine.load(&step(&optimiser, 0, &[]), &SessionOptions::default()).unwrap();
        let one = Tensor::from_f32(&[], &[1.0]);
        let fed = [nothing.clone(), nothing.clone(), nothing, rates(&optimiser, 0.1, 0), one];
        assert!(session.run(&fed).unwrap().iter().all(|t| t.shape() == [0]), "{name}");
    }
}
