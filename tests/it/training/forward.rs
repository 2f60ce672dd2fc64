//! The student's forward pass against the file that is emitted: with the same biases, the same numbers.

use dfq_onnx::emit::emit;
use dfq_onnx::expr::{Builder, Expr};
use dfq_onnx::ir::{DType, Graph, Tensor};
use dfq_onnx::onnx;
use dfq_onnx::plan::{LayerBits, Policy, Target};
use dfq_onnx::quant::quantize_bias;
use dfq_onnx::runtime::{Engine, Optimisation, SessionOptions, TractEngine};
use dfq_onnx::solution::Solved;
use dfq_onnx::train::{Student, read_out};
use dfq_onnx::verify::widen_initializers;

use super::models;
use super::settled::{at, moved, settled};
use crate::support::quantized::{Quantized, quantized};
use crate::support::{models as files, ort, random_inputs, relative_rms};
use crate::{emission, targets, tied};

/// tract multiplies with the reciprocal of a step where it quantizes, the student divides: of a million values at 8 bits a
/// few fall on the other side, and the layers behind them carry that on. Small nets have no such value.
const TIES_IN_TRACT: f64 = 0.05;

/// A network and what is asked for.
pub(super) type Case = (String, Graph, Policy);

/// Every way in which files differ, on the nets that have all of it.
pub(super) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for target in Target::ALL {
        for bits in [(8, 8), (4, 4), (2, 4)] {
            let bits = (bits.0, bits.1.max(target.choices().fewest_activation_bits));
            let policy = at(bits, Policy { target, ..Policy::default() });
            let name = format!("w{}a{} {target:?}", bits.0, bits.1);
            // Its layers are too narrow for TensorRT.
            if target != Target::TensorRt {
                cases.push((format!("{name}, all operators"), emission::network(), policy.clone()));
            }
            cases.push((format!("{name}, residual and join"), targets::network(), policy));
        }
    }
    let nets = [
        ("two activations", models::attention()),
        ("ConvTranspose", models::upsampling(1)),
        ("ConvTranspose in groups", models::upsampling(2)),
        ("a shared weight", tied::convolutions(false)),
        ("grid-preserving", models::grid_preserving()),
    ];
    for (name, graph) in nets {
        for bits in [(8, 8), (4, 4), (2, 4)] {
            let all_layers = Policy { all_layers: true, ..Policy::default() };
            cases.push((format!("w{}a{}, {name}", bits.0, bits.1), graph.clone(), at(bits, all_layers)));
        }
    }
    let forms = [
        ("per tensor", Policy { per_channel: false, ..Policy::default() }),
        ("affine weights", Policy { symmetric: false, ..Policy::default() }),
        ("affine, per tensor", Policy { symmetric: false, per_channel: false, ..Policy::default() }),
        ("a reduced range", Policy { reduce_range: true, ..Policy::default() }),
        (
            "bits of layers",
            Policy {
                layer_bits: vec![
                    ("c2".to_owned(), LayerBits::weight(3)),
                    ("c3".to_owned(), LayerBits { weight: Some(5), input: Some(6) }),
                ],
                ..Policy::default()
            },
        ),
        ("a layer left float", Policy { exclude: vec!["c3".to_owned()], ..Policy::default() }),
        ("products left float", Policy { exclude_ops: vec!["Gemm".to_owned()], ..Policy::default() }),
    ];
    for (name, policy) in forms {
        for bits in [(8, 8), (4, 4)] {
            cases.push((format!("w{}a{}, {name}", bits.0, bits.1), emission::network(), at(bits, policy.clone())));
        }
    }
    cases
}

/// The graph of the student's forward pass: weights, steps and the network's inputs in, its outputs out.
fn forward(student: &Student, inputs: &[Tensor]) -> dfq_onnx::Result<Graph> {
    let builder = Builder::new("student");
    let [weights, scales] = student.start();
    let [weights, scales] =
        [("weights", weights), ("scales", scales)].map(|(name, start)| builder.input(name, DType::F32, start.shape()));
    let fed: Vec<Expr> = inputs.iter().map(|t| builder.input("fed", t.dtype(), t.shape())).collect();
    let made: Vec<Expr> =
        student.forward(&fed, weights, scales)?.outputs.into_iter().map(|y| y.unary("Identity")).collect();
    let names: Vec<String> = (0..made.len()).map(|i| format!("output{i}")).collect();
    let named: Vec<(&str, Expr)> = names.iter().map(String::as_str).zip(made).collect();
    builder.finish(&named)
}

/// Runs nodes as they are written.
fn run(engine: &dyn Engine, graph: &Graph, inputs: &[Tensor]) -> dfq_onnx::Result<Vec<Tensor>> {
    let options = SessionOptions { optimisation: Optimisation::None, ..SessionOptions::default() };
    engine.load(graph, &options)?.run(inputs)
}

/// Returns the vectors with biases that int32 holds exactly.
fn with_exact_biases(
    made: &Quantized,
    student: &Student,
    vectors: &[Tensor; 2],
    engine: &dyn Engine,
) -> dfq_onnx::Result<[Tensor; 2]> {
    if !made.plan.target.choices().quantizes_biases {
        return Ok(vectors.clone());
    }
    let trained = read_out(student, engine, vectors)?;
    let (mut names, mut tensors): (Vec<_>, Vec<_>) = student.weights.layout.tensors(&vectors[0])?.into_iter().unzip();
    for layer in &made.plan.layers {
        let placed = student.graph();
        let Some(bias) = placed.maker(&layer.output).and_then(|node| node.input(2)) else { continue };
        let Some(place) = names.iter_mut().position(|name| name == placed.name_of(bias)) else { continue };
        let Some(weight) = layer.weight else { continue };
        let (x, w) = (trained.activations[layer.input].scale[0], &trained.weights[weight].grid.scale);
        let rounded = quantize_bias(&tensors[place].to_f32()?, x, w);
        let scale = |c: usize| rounded.scale[if rounded.scale.len() == 1 { 0 } else { c }];
        let values: Vec<f32> = rounded.integers.iter().enumerate().map(|(c, &q)| q as f32 * scale(c)).collect();
        tensors[place] = Tensor::from_f32(&[values.len()], &values);
    }
    Ok([student.weights.layout.flatten(&tensors)?, vectors[1].clone()])
}

/// Says where the file that is emitted computes something else than the student: in ONNX Runtime at all, in tract by more
/// than `in_tract`.
fn differences(made: &Quantized, batch: usize, in_tract: f64) -> dfq_onnx::Result<Vec<String>> {
    let student = Student::new(&made.float, &made.plan, &made.solution)?;
    let inputs = random_inputs(&made.float, batch, 17);
    let graph = forward(&student, &inputs)?;
    let start = student.start();
    let mut found = Vec::new();
    for (when, vectors) in [("at the start", start.clone()), ("trained", moved(&start, 5))] {
        for (engine, limit) in [(ort() as &dyn Engine, 0.0), (&TractEngine, in_tract)] {
            let vectors = with_exact_biases(made, &student, &vectors, engine)?;
            let Solved { float, plan, solution, .. } = settled(made, &student, &vectors, engine)?;
            // tract reads no integers of 4 bits.
            let emitted = widen_initializers(&emit(&float, &plan, &solution)?)?;
            let expected = run(engine, &emitted, &inputs)?;
            let given = run(engine, &graph, &[&vectors[..], &inputs].concat())?;
            for (i, (given, expected)) in given.iter().zip(&expected).enumerate() {
                let error = relative_rms(given, expected);
                if error > limit {
                    found.push(format!("{when}, {}: output {i} differs by {error:.1e}", engine.name()));
                }
            }
        }
    }
    Ok(found)
}

#[test]
fn what_is_trained_is_what_is_shipped() {
    let mut failed = Vec::new();
    for (name, graph, policy) in cases() {
        let found = quantized(&graph, &policy).and_then(|made| differences(&made, 3, 0.0));
        let found = found.unwrap_or_else(|e| vec![e.to_string()]);
        failed.extend(found.into_iter().map(|message| format!("{name}: {message}")));
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn what_is_trained_of_real_networks_is_what_is_shipped() {
    let names = ["digits_", "resnet20_cifar10.", "dwstiny", "mobilenetv1_025"];
    let mut failed = Vec::new();
    for path in files() {
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        if !names.iter().any(|name| file.starts_with(name)) {
            continue;
        }
        let graph = onnx::load(&path).unwrap();
        for (bits, target) in [((8, 8), Target::OrtCpu), ((4, 4), Target::Onnx), ((2, 4), Target::Portable)] {
            let policy = at(bits, Policy { target, ..Policy::default() });
            let found = quantized(&graph, &policy).and_then(|made| differences(&made, 2, TIES_IN_TRACT));
            let found = found.unwrap_or_else(|e| vec![e.to_string()]);
            failed.extend(found.into_iter().map(|message| format!("{file} {bits:?}: {message}")));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
