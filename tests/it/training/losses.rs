//! Distances between student and teacher against f64 on the host, and which tensors they are taken of.

use dfq_onnx::autodiff::gradients;
use dfq_onnx::expr::{Builder, Expr, OPSET, inline};
use dfq_onnx::ir::{DType, Graph, Tensor};
use dfq_onnx::runtime::{Engine, SessionOptions, TractEngine};
use dfq_onnx::train::{Network, Target, adversarial_distance, distance, kl_logits, relative_mse, targets};
use dfq_onnx::{onnx, shape};

use crate::support::build::Build;
use crate::support::net::{layer, normal, pads};
use crate::support::{ort, random_inputs};

/// A few hundred terms in f32, of numbers around 1.
const TOLERANCE: f64 = 1e-5;

type Rows = Vec<Vec<f64>>;

fn rows(tensor: &Tensor) -> Rows {
    let columns = tensor.shape()[1..].iter().product();
    tensor.to_f32().unwrap().chunks(columns).map(|row| row.iter().map(|&v| f64::from(v)).collect()).collect()
}

fn log_softmax(row: &[f64], temperature: f64) -> Vec<f64> {
    let scaled: Vec<f64> = row.iter().map(|v| v / temperature).collect();
    let largest = scaled.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = scaled.iter().map(|v| (v - largest).exp()).sum();
    scaled.iter().map(|v| v - largest - sum.ln()).collect()
}

/// `T²/N · Σ p (log p - log q)`, and its gradient `T/N · (q - p)` with respect to the student's logits.
fn kl(teacher: &Rows, student: &Rows, temperature: f64) -> (f64, Vec<f64>) {
    let (mut loss, mut slopes) = (0.0, Vec::new());
    for (t, s) in teacher.iter().zip(student) {
        let (p, q) = (log_softmax(t, temperature), log_softmax(s, temperature));
        loss += p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
        slopes.extend(p.iter().zip(&q).map(|(p, q)| (q.exp() - p.exp()) * temperature / teacher.len() as f64));
    }
    (loss * temperature * temperature / teacher.len() as f64, slopes)
}

/// `Σ (s - t)² / Σ t²` and its gradient `2 (s - t) / Σ t²`.
fn square(teacher: &Rows, student: &Rows) -> (f64, Vec<f64>) {
    let pairs = || teacher.iter().flatten().zip(student.iter().flatten());
    let energy: f64 = teacher.iter().flatten().map(|t| t * t).sum::<f64>().max(f64::from(f32::MIN_POSITIVE));
    (
        pairs().map(|(t, s)| (s - t).powi(2)).sum::<f64>() / energy,
        pairs().map(|(t, s)| 2.0 * (s - t) / energy).collect(),
    )
}

fn near(found: &[f32], expected: &[f64]) -> bool {
    let largest = expected.iter().fold(0.1f64, |m, v| m.max(v.abs()));
    found.len() == expected.len()
        && found.iter().zip(expected).all(|(&f, e)| (f64::from(f) - e).abs() <= TOLERANCE * largest)
}

#[test]
fn losses_and_their_gradients_are_those_of_the_formulas_and_none_reaches_the_teacher() {
    let tensor = |scale, seed| normal(&[4, 6], scale, seed);
    let moved = |values: &Tensor, by: f32| {
        let values: Vec<f32> = values.to_f32().unwrap().iter().map(|v| v + by).collect();
        Tensor::from_f32(&[4, 6], &values)
    };
    let zeros = Tensor::from_f32(&[4, 6], &[0.0; 24]);
    let pairs = [
        ("logits", tensor(1.0, 1), tensor(1.0, 2)),
        ("equal", tensor(1.0, 1), tensor(1.0, 1)),
        ("sure of the same, on another level", tensor(30.0, 1), moved(&tensor(30.0, 1), 64.0)),
        ("sure of another", tensor(30.0, 1), tensor(30.0, 2)),
        ("a teacher of zeros", zeros.clone(), zeros),
    ];
    let mut failed = Vec::new();
    for (name, teacher, student) in &pairs {
        for temperature in [None, Some(1.0f32), Some(4.0), Some(0.5)] {
            let builder = Builder::new("loss");
            let [t, s] = ["teacher", "student"].map(|input| builder.input(input, DType::F32, &[4, 6]));
            let loss = temperature.map_or_else(|| relative_mse(t, s), |temperature| kl_logits(t, s, temperature));
            let slopes = gradients(loss, &[t, s]).unwrap();
            let outputs = [("loss", loss), ("dt", slopes[0]), ("ds", slopes[1])];
            let graph = builder.finish(&outputs).unwrap();
            let (t, s) = (rows(teacher), rows(student));
            let (loss, slopes) = temperature.map_or_else(|| square(&t, &s), |by| kl(&t, &s, f64::from(by)));
            for engine in [ort() as &dyn Engine, &TractEngine] {
                let mut session = engine.load(&graph, &SessionOptions::default()).unwrap();
                let made = session.run(&[teacher.clone(), student.clone()]).unwrap();
                let made: Vec<Vec<f32>> = made.iter().map(|tensor| tensor.to_f32().unwrap()).collect();
                if !near(&made[0], &[loss]) || made[1].iter().any(|&v| v != 0.0) || !near(&made[2], &slopes) {
                    let engine = engine.name();
                    failed
                        .push(format!("{name} at {temperature:?}, {engine}: {made:?}, expected {loss} and {slopes:?}"));
                }
                if *name == "equal" && made[0][0].abs() > 1e-6 {
                    failed.push(format!("{name} at {temperature:?}: {} is not 0", made[0][0]));
                }
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn an_adversarial_distance_moves_what_the_teacher_answers_whatever_that_holds() {
    let mut failed = Vec::new();
    let graph = prepared(net(flat).outputs("logits features"));
    let each = targets(&graph).tensors.into_iter().flat_map(|target| [(target.clone(), true), (target, false)]);
    for (target, is_adversarial) in each {
        let builder = Builder::new("adversarial_distance");
        let (t, s) = (builder.input("t", DType::F32, &[2, 3, 4, 4]), builder.input("s", DType::F32, &[2, 3, 4, 4]));
        let [teacher, student] = [t, s].map(|x| inline(&builder, &graph, &[x], &mut |_, e| e).unwrap());
        let [teacher, student] = [&teacher, &student].map(|inlined| Network { graph: &graph, inlined });
        let targets = std::slice::from_ref(&target);
        let loss = if is_adversarial {
            adversarial_distance(targets, teacher, student, 2.0)
        } else {
            distance(targets, teacher, student, 2.0)
        };
        let slopes = gradients(loss.unwrap(), &[t, s]).unwrap();
        let step = builder.finish(&[("dt", slopes[0]), ("ds", slopes[1])]).unwrap();
        let inputs = [normal(&[2, 3, 4, 4], 1.0, 1), normal(&[2, 3, 4, 4], 1.0, 2)];
        let made = ort().load(&step, &SessionOptions::default()).unwrap().run(&inputs).unwrap();
        let moves = |tensor: &Tensor| tensor.to_f32().unwrap().iter().any(|&v| v != 0.0);
        if moves(&made[0]) != is_adversarial || !moves(&made[1]) {
            failed.push(format!("{target:?}, adversarial: {is_adversarial}"));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

/// `features: [N, 6, 4, 4]` behind a convolution of `x: [N, 3, 4, 4]`, and `logits: [N, 5]` or `[N, 5, 1, 1]` of them.
fn net(tail: impl FnOnce(&mut Build)) -> Build {
    let mut g = Build::at(17);
    g.fed("x", DType::F32, "N, 3, 4, 4");
    layer(&mut g, "Conv", "x", "c", &[6, 3, 3, 3], 6, pads(1));
    g.node("Relu", "c", "features", []);
    g.node("GlobalAveragePool", "features", "p", []);
    tail(&mut g);
    g
}

fn flat(g: &mut Build) {
    g.node("Flatten", "p", "f", []);
    layer(g, "Gemm", "f", "logits", &[6, 5], 5, []);
}

/// Name, model, and the tensors that are compared with whether they hold logits.
type Case = (&'static str, Graph, Vec<(&'static str, bool)>);

fn cases() -> Vec<Case> {
    let softmax = net(|g| {
        flat(g);
        g.node("Softmax", "logits", "y", []);
    });
    let pixels = net(|g| layer(g, "Conv", "p", "logits", &[5, 6, 1, 1], 5, []));
    let both = net(|g| {
        flat(g);
        g.node("LogSoftmax", "logits", "y", []);
    });
    let labels = net(|g| {
        flat(g);
        g.node("ArgMax", "logits", "y", [("axis", 1.into())]);
    });
    let one = net(|g| {
        g.node("Flatten", "p", "f", []);
        layer(g, "Gemm", "f", "y", &[6, 1], 1, []);
    });
    let embedding = net(|g| {
        flat(g);
        g.node("ReduceL2", "logits", "length", [("axes", vec![1].into())]);
        g.node("Div", "logits length", "y", []);
    });
    let sizes = net(|g| g.node("Shape", "features", "y", []));
    let seen = net(|g| {
        flat(g);
        g.node("Shape", "features", "y", []);
    });
    vec![
        ("probabilities", softmax.outputs("y"), vec![("logits", true)]),
        ("logits of one pixel", pixels.outputs("logits"), vec![("logits", true)]),
        ("a feature map", net(|_| ()).outputs("features"), vec![("features", false)]),
        ("logits and features", both.outputs("y features"), vec![("logits", true), ("features", false)]),
        ("labels", labels.outputs("y"), vec![("logits", true)]),
        ("one number", one.outputs("y"), vec![("y", false)]),
        ("an embedding behind a length without a rule", embedding.outputs("y"), vec![("logits", true)]),
        ("logits beside sizes", seen.outputs("logits y"), vec![("logits", true)]),
        ("sizes alone", sizes.outputs("y"), vec![]),
    ]
}

fn prepared(mut graph: Graph) -> Graph {
    shape::infer(&mut graph).unwrap();
    onnx::upgrade(&mut graph, OPSET).unwrap();
    shape::infer(&mut graph).unwrap();
    graph
}

#[test]
fn what_is_compared_is_what_stands_before_a_softmax_or_a_decision() {
    let mut failed = Vec::new();
    for (name, graph, expected) in cases() {
        let found = targets(&prepared(graph)).tensors;
        let found: Vec<(&str, bool)> = found.iter().map(|t| (t.tensor.as_str(), t.is_logits)).collect();
        if found != expected {
            failed.push(format!("{name}: {found:?}"));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

/// Returns the distance between `graph` and itself with its first weight doubled, and each target of both.
fn distance_graph(graph: &Graph, targets: &[Target], temperature: f32) -> dfq_onnx::Result<Graph> {
    let builder = Builder::new("distance");
    let x = builder.input("fed", DType::F32, &[3, 3, 4, 4]);
    let teacher = inline(&builder, graph, &[x], &mut |_, e| e)?;
    let student = inline(&builder, graph, &[x], &mut |name, e| if name == "c_w" { e * 2.0 } else { e })?;
    let [teacher, student] = [&teacher, &student].map(|inlined| Network { graph, inlined });
    let mut outputs: Vec<(String, Expr)> = vec![("loss".to_owned(), distance(targets, teacher, student, temperature)?)];
    for (i, target) in targets.iter().enumerate() {
        for (kind, network) in [("teacher", teacher), ("student", student)] {
            outputs.push((format!("{kind}{i}"), network.tensor(&target.tensor)?.unary("Identity")));
        }
    }
    let outputs: Vec<(&str, Expr)> = outputs.iter().map(|(name, e)| (name.as_str(), *e)).collect();
    builder.finish(&outputs)
}

#[test]
fn the_distance_is_the_sum_over_all_outputs() {
    let (mut failed, temperature) = (Vec::new(), 2.0);
    for (name, graph, _) in cases() {
        let graph = prepared(graph);
        let targets = targets(&graph).tensors;
        let made = match distance_graph(&graph, &targets, temperature) {
            Ok(made) => made,
            Err(error) => {
                let told = error.to_string().contains("no floating-point output") && error.exit_code() == 3;
                if !targets.is_empty() || !told {
                    failed.push(format!("{name}: {error}"));
                }
                continue;
            }
        };
        let inputs = random_inputs(&made, 3, 4);
        let found = ort().load(&made, &SessionOptions::default()).unwrap().run(&inputs).unwrap();
        let mut expected = 0.0;
        for (i, target) in targets.iter().enumerate() {
            let [t, s] = [1, 2].map(|k| rows(&found[2 * i + k]));
            expected += if target.is_logits { kl(&t, &s, f64::from(temperature)).0 } else { square(&t, &s).0 };
        }
        let loss = found[0].to_f32().unwrap();
        if !near(&loss, &[expected]) || expected < 1e-4 {
            failed.push(format!("{name}: {loss:?}, expected {expected}"));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn a_tensor_that_one_network_lacks_is_named() {
    let graph = prepared(net(flat).outputs("logits"));
    let target = Target { tensor: "lacking".to_owned(), is_logits: false };
    let error = distance_graph(&graph, &[target], 1.0).unwrap_err();
    assert!(error.to_string().contains("\"lacking\""), "{error}");
}
