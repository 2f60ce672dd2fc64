//! `fast` against rounding to nearest on inputs that its statistics do not go with: no step may do harm there, and one
//! that would says so.

use dfq_onnx::ir::{Dim, Graph, Tensor};
use dfq_onnx::onnx;
use dfq_onnx::plan::Policy;
use dfq_onnx::runtime::{Engine, SessionOptions};
use dfq_onnx::stats::InputStatistics;
use dfq_onnx::verify::Comparison;

use crate::support::quantized::{Prepared, Quantized, prepared, quantized_from};
use crate::support::{fixture, ort};

/// Decibels that `fast` may be below `nearest`: inputs of another seed than those that it was held against.
const HARMLESS: f64 = 1.5;
/// What the digits are fed.
const USUAL: (f64, f64) = (-0.88, 2.06);
const SAMPLES: usize = 16;

/// A trained network with the interval that it is said to be fed, and whether it takes one sample at a time, which
/// leaves its statistics out of what steps go by.
type Case = (&'static str, &'static str, (f64, f64), bool);

const CASES: &[Case] = &[
    ("as it was trained", "digits_resnet8", USUAL, false),
    ("a narrow interval", "digits_resnet8", (-0.02, 0.02), false),
    ("a wide interval", "digits_resnet8", (-3.0, 6.0), false),
    ("one sample, a wide interval", "digits_resnet8", (-3.0, 6.0), true),
    ("one sample, a very wide interval", "digits_mobilenet", (-10.0, 20.0), true),
    ("depthwise, a narrow interval", "digits_mobilenet", (-0.1, 0.1), false),
    ("depthwise, a very wide interval", "digits_mobilenet", (-10.0, 20.0), false),
];

fn model(name: &str, is_fixed: bool) -> Graph {
    let mut graph = onnx::load(&fixture(&format!("{name}.onnx"))).unwrap();
    if is_fixed {
        let input = graph.inputs[0];
        graph.value_mut(input).shape.as_mut().unwrap()[0] = Dim::Known(1);
    }
    graph
}

/// Returns images in an interval, and the same with a third of the contrast and with rows in another order.
fn kinds(float: &Graph, (lo, hi): (f64, f64)) -> Vec<Tensor> {
    let images = InputStatistics::of_interval(lo, hi).synthetic(float, SAMPLES, 77, 1).unwrap().remove(0);
    let (shape, values) = (images.shape().to_vec(), images.to_f32().unwrap());
    let middle = ((lo + hi) / 2.0) as f32;
    let pale: Vec<f32> = values.iter().map(|v| middle + (v - middle) / 3.0).collect();
    let mixed: Vec<f32> = (0..values.len()).map(|i| values[i / 1024 * 1024 + i * 389 % 1024]).collect();
    vec![images, Tensor::from_f32(&shape, &pale), Tensor::from_f32(&shape, &mixed)]
}

fn answers(graph: &Graph, images: &Tensor) -> Vec<f32> {
    let mut session = ort().load(graph, &SessionOptions::default()).unwrap();
    let one = |i: usize| session.run(&[images.rows(i..i + 1).unwrap()]).unwrap()[0].to_f32().unwrap();
    (0..images.shape()[0]).flat_map(one).collect()
}

fn failures(case: Case, policy: &Policy) -> Vec<String> {
    let (name, model_name, interval, is_fixed) = case;
    let made = prepared(&model(model_name, is_fixed), policy).unwrap();
    let made = Prepared { input: InputStatistics::of_interval(interval.0, interval.1), ..made };
    let [nearest, fast]: [Quantized; 2] =
        ["nearest", "fast"].map(|recipe| quantized_from(&made, policy, recipe, 1).unwrap());
    let mut failed = Vec::new();
    let mut inputs = kinds(&made.float, interval);
    // Without statistics and in an interval many times as wide, nothing that a recipe sees tells of the usual inputs.
    if !is_fixed || interval.1 < 5.0 * USUAL.1 {
        inputs.extend(kinds(&made.float, USUAL));
    }
    for (kind, images) in inputs.into_iter().enumerate() {
        let float = answers(&made.float, &images);
        let [nearest, fast] =
            [&nearest, &fast].map(|made| Comparison::of(&float, &answers(&made.emitted, &images)).sqnr_db());
        if fast < nearest - HARMLESS {
            failed.push(format!("{name}, w{}, kind {kind}: {fast:.1} dB, nearest {nearest:.1}", policy.weight_bits));
        }
    }
    let named = |step: &str| fast.solution.steps.iter().filter(|found| found.step == step).count();
    if named("rounding") != fast.plan.weights.len() || named("bias") != fast.plan.layers.len() {
        failed.push(format!("{name}: {:?}", fast.solution.steps));
    }
    failed
}

#[test]
fn fast_is_never_worse_than_rounding_to_nearest_whatever_the_statistics_say() {
    let bits = |weight_bits| Policy { weight_bits, activation_bits: 8, ..Policy::default() };
    let failed: Vec<String> =
        CASES.iter().flat_map(|case| [8, 4].map(|weight_bits| failures(*case, &bits(weight_bits)))).flatten().collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn what_is_left_out_says_why() {
    let made = prepared(&model("digits_mobilenet", true), &Policy::default()).unwrap();
    let made = Prepared { input: InputStatistics::of_interval(-10.0, 20.0), ..made };
    let fast = quantized_from(&made, &Policy::default(), "fast", 1).unwrap();
    let told = |step: &dfq_onnx::layers::LayerStep| {
        step.step == "bias"
            && (step.refused.is_some() || step.note.as_ref().is_some_and(|note| note.contains("saturated")))
    };
    assert!(fast.solution.steps.iter().any(told), "{:?}", fast.solution.steps);
}
