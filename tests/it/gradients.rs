//! Every gradient rule against central differences through ONNX Runtime.
//!
//! The loss is `Σ w·y` over all results with fixed random weights, summed in f64 on the host. Along a random direction
//! its slope by central differences must be what the gradients say. Inputs keep away from kinks by construction.

mod cases;
mod exact;
mod torch;

use std::collections::BTreeSet;

use dfq_onnx::autodiff::{OWN_RULES, RULES, gradients};
use dfq_onnx::expr::{Builder, Expr, FAKE_QUANTIZE};
use dfq_onnx::ir::{DType, Graph, Tensor};
use dfq_onnx::runtime::{Engine, Optimisation, Session, SessionOptions, TractEngine};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::support::ort;
use cases::cases;

/// Steps in f32 leave about three digits of a difference quotient.
const TOLERANCE: f64 = 1e-2;
/// Half the distance between the two points of a difference quotient, relative to elements around 1.
const STEP: f32 = 2e-3;
/// Engines add in another order.
const BETWEEN_ENGINES: f64 = 1e-4;

/// How the elements of an operand lie.
#[derive(Clone, Copy, Debug)]
pub enum Values {
    /// From -2 to 2, apart from each other and from every multiple of 1/2 by more than the steps of a difference.
    Apart,
    /// The same from 0.5 to 2.
    Positive,
    /// These, again and again.
    These(&'static [f32]),
}

/// Makes results of operands.
pub type Build = dyn for<'b> Fn(&[Expr<'b>]) -> Vec<Expr<'b>>;

/// One operator in one form.
pub struct Case {
    /// The operator, as in the table of rules.
    pub op_type: &'static str,
    /// What is special about it.
    pub form: String,
    /// Shapes and elements of the operands.
    pub operands: Vec<(Vec<usize>, Values)>,
    /// Builds the results.
    pub build: Box<Build>,
}

impl Values {
    fn tensor(self, shape: &[usize], rng: &mut ChaCha8Rng) -> Tensor {
        let n: usize = shape.iter().product();
        let mut cells = |lo: f32, halves: usize| -> Vec<f32> {
            // Cells of one width, with an edge at every half: their middles are apart from those and from each other.
            let count = n.div_ceil(halves).max(1) * halves;
            let width = 0.5 * halves as f32 / count as f32;
            let mut middles: Vec<f32> = (0..count).map(|i| lo + (i as f32 + 0.5) * width).collect();
            for i in (1..count).rev() {
                middles.swap(i, rng.random_range(0..=i));
            }
            middles.truncate(n);
            middles
        };
        let values = match self {
            Self::These(values) => values.iter().copied().cycle().take(n).collect(),
            Self::Apart => cells(-2.0, 8),
            Self::Positive => cells(0.5, 3),
        };
        Tensor::from_f32(shape, &values)
    }
}

/// The results of a case as a graph, and the gradients of the weighted sum with respect to every operand.
struct Built {
    forward: Graph,
    backward: Graph,
    weights: Vec<Tensor>,
    operands: Vec<Tensor>,
}

fn build(case: &Case, rng: &mut ChaCha8Rng) -> Result<Built, String> {
    let operands: Vec<Tensor> = case.operands.iter().map(|(shape, values)| values.tensor(shape, rng)).collect();
    let builder = Builder::new(case.op_type);
    let inputs: Vec<Expr> =
        (0..operands.len()).map(|i| builder.input(&format!("x{i}"), DType::F32, operands[i].shape())).collect();
    let results = (case.build)(&inputs);
    let mut weights = Vec::new();
    let mut loss = builder.scalar(0.0);
    for y in &results {
        let values: Vec<f32> =
            (0..y.len()).map(|_| rng.random_range(0.5..1.5) * if rng.random() { 1.0 } else { -1.0 }).collect();
        weights.push(Tensor::from_f32(&y.shape(), &values));
        loss = loss + (*y * builder.constant("weights", weights[weights.len() - 1].clone())).sum(&[], false);
    }
    let found = gradients(loss, &inputs).map_err(|e| e.to_string())?;
    let named =
        |prefix: &str, exprs: &[Expr]| -> Vec<String> { (0..exprs.len()).map(|i| format!("{prefix}{i}")).collect() };
    let [result_names, gradient_names] = [named("y", &results), named("d", &found)];
    let outputs = |names: &'_ [String], exprs: &[Expr<'_>]| -> Result<Graph, String> {
        // An Identity makes an output of what may be an input or the same as another.
        let exprs: Vec<Expr> = exprs.iter().map(|e| e.unary("Identity")).collect();
        let pairs: Vec<(&str, Expr)> = names.iter().map(String::as_str).zip(exprs).collect();
        builder.finish(&pairs).map_err(|e| e.to_string())
    };
    let forward = outputs(&result_names, &results)?;
    let is_own = OWN_RULES.iter().any(|row| row.0 == case.op_type);
    if !is_own && !forward.nodes.iter().any(|n| n.op_type == case.op_type) {
        return Err(format!("does not use {}", case.op_type));
    }
    Ok(Built { backward: outputs(&gradient_names, &found)?, forward, weights, operands })
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor.to_f32().unwrap()
}

fn dot(a: &Tensor, b: &Tensor) -> f64 {
    floats(a).iter().zip(floats(b)).map(|(&a, b)| f64::from(a) * f64::from(b)).sum()
}

/// Returns the larger of both, or what is not a number.
pub fn larger(a: f64, b: f64) -> f64 {
    if a >= b { a } else { b }
}

/// Returns the relative error of the slope along a random direction of each operand, and the difference between engines.
fn errors(case: &Case) -> Result<(f64, f64), String> {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let built = build(case, &mut rng)?;
    let options = SessionOptions { optimisation: Optimisation::None, ..SessionOptions::default() };
    let load = |engine: &dyn Engine, graph: &Graph| engine.load(graph, &options).map_err(|e| e.to_string());
    let run = |session: &mut Box<dyn Session>, inputs: &[Tensor]| session.run(inputs).map_err(|e| e.to_string());
    let gradients = run(&mut load(ort(), &built.backward)?, &built.operands)?;
    let in_tract = run(&mut load(&TractEngine, &built.backward)?, &built.operands)?;
    let mut between: f64 = 0.0;
    for (a, b) in gradients.iter().zip(&in_tract) {
        let scale = floats(a).iter().fold(1e-3f32, |m, v| m.max(v.abs()));
        between = floats(a).iter().zip(floats(b)).map(|(a, b)| f64::from((a - b).abs() / scale)).fold(between, larger);
    }
    let mut forward = load(ort(), &built.forward)?;
    let mut worst: f64 = 0.0;
    for (i, gradient) in gradients.iter().enumerate() {
        let x = floats(&built.operands[i]);
        let direction: Vec<f32> =
            x.iter().map(|_| rng.random_range(0.2..1.0) * if rng.random() { 1.0 } else { -1.0 }).collect();
        let mut at = |step: f32| -> Result<f64, String> {
            let mut inputs = built.operands.clone();
            let moved: Vec<f32> = x.iter().zip(&direction).map(|(x, d)| x + step * d).collect();
            inputs[i] = Tensor::from_f32(inputs[i].shape(), &moved);
            let results = run(&mut forward, &inputs)?;
            if let Some((y, w)) = results.iter().zip(&built.weights).find(|(y, w)| y.shape() != w.shape()) {
                return Err(format!("makes a result {:?} where {:?} was inferred", y.shape(), w.shape()));
            }
            Ok(results.iter().zip(&built.weights).map(|(y, w)| dot(y, w)).sum())
        };
        let slope = (at(STEP)? - at(-STEP)?) / (2.0 * f64::from(STEP));
        let direction = Tensor::from_f32(gradient.shape(), &direction);
        let expected = dot(gradient, &direction);
        // Relative to what the terms of the sum are made of, for the sum itself may come out near zero.
        let size = floats(gradient).iter().map(|g| f64::from(g * g)).sum::<f64>().sqrt().max(expected.abs()).max(1e-3);
        worst = larger(worst, (slope - expected).abs() / size);
    }
    Ok((worst, between))
}

#[test]
fn every_rule_gives_the_slope_of_its_operator() {
    let mut failed = Vec::new();
    for case in cases() {
        let name = format!("{} {}", case.op_type, case.form);
        match errors(&case) {
            Ok((slope, between)) => {
                println!("{name:<50} {slope:.1e} {between:.1e}");
                if !(slope <= TOLERANCE && between <= BETWEEN_ENGINES) {
                    failed.push(format!("{name}: slope off by {slope:.1e}, engines apart by {between:.1e}"));
                }
            }
            Err(message) => failed.push(format!("{name}: {message}")),
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn every_rule_has_a_case() {
    let covered: BTreeSet<&str> = cases().iter().map(|case| case.op_type).collect();
    // What passes a quantizer straight through is no slope.
    let own = OWN_RULES.iter().filter(|row| row.0 != FAKE_QUANTIZE);
    let rows: Vec<&str> = RULES.iter().chain(own).map(|row| row.0).collect();
    let rules: BTreeSet<&str> = rows.iter().copied().collect();
    assert_eq!(rules.difference(&covered).collect::<Vec<_>>(), Vec::<&&str>::new());
    assert_eq!(rules.len(), rows.len(), "an operator has two rules");
}

#[test]
fn what_no_gradient_reaches_is_zero_or_an_error() {
    let builder = Builder::new("semantics");
    let [x, other] = ["x", "other"].map(|name| builder.input(name, DType::F32, &[2, 3]));
    let stopped = (x.stop_gradient() * x).sum(&[], false);
    let found = gradients(stopped, &[x, other]).unwrap();
    let graph = builder.finish(&[("dx", found[0]), ("dother", found[1])]).unwrap();
    let values = Tensor::from_f32(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let ran = ort().load(&graph, &SessionOptions::default()).unwrap().run(&[values.clone(), values.clone()]).unwrap();
    assert_eq!(floats(&ran[0]), floats(&values), "what is stopped counts as a constant");
    assert_eq!(floats(&ran[1]), [0.0; 6], "an input that is not used has gradient zero");
    let builder = Builder::new("no rule");
    let x = builder.input("x", DType::F32, &[2, 3]);
    let error = gradients(x.unary("Hardmax").sum(&[], false), &[x]).unwrap_err().to_string();
    assert!(error.contains("Hardmax") && error.contains("no gradient rule"), "{error}");
    let error = gradients(x * 2.0, &[x]).unwrap_err().to_string();
    assert!(error.contains("single number"), "{error}");
}

#[test]
fn the_first_mistake_is_told_with_its_place() {
    let builder = Builder::new("mistakes");
    let [a, b] = [[2, 3], [4, 5]].map(|shape| builder.input("x", DType::F32, &shape));
    let line = line!() + 1;
    let sum = a + b;
    let later = (sum * a).relu().matmul(a);
    let error = builder.finish(&[("y", later)]).unwrap_err().to_string();
    assert!(error.contains(&format!("gradients.rs:{line}")) && error.contains("Add"), "{error}");
    let builder = Builder::new("names");
    let x = builder.input("x", DType::F32, &[2]);
    let error = builder.finish(&[("y", x)]).unwrap_err().to_string();
    assert!(error.contains("\"y\"") && error.contains("Identity"), "{error}");
}
