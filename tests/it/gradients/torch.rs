//! Operators and their gradients against PyTorch's, in both engines; `fixtures/torch_gradients.py` made the values.

use std::collections::BTreeMap;

use dfq_onnx::autodiff::gradients;
use dfq_onnx::data::read_arrays;
use dfq_onnx::expr::{Builder, Expr};
use dfq_onnx::ir::{Attr, Attrs, Graph, Tensor};
use dfq_onnx::runtime::{Engine, SessionOptions, TractEngine};

use super::{floats, larger};
use crate::support::{fixture, ort};

/// Single precision against double, relative to the largest element.
const TOLERANCE: f64 = 1e-5;

/// Makes the results of a case of its operands and constants.
type Make = for<'b> fn(&[Expr<'b>], &[Expr<'b>]) -> Vec<Expr<'b>>;

const CASES: &[(&str, Make)] = &[
    ("conv plain", |x, _| with("Conv", x, &[])),
    ("conv bias", |x, _| with("Conv", x, &[("pads", &[1, 1, 1, 1])])),
    ("conv strides", |x, _| with("Conv", x, &[("strides", &[2, 3]), ("pads", &[1, 1, 1, 1])])),
    ("conv dilations", |x, _| with("Conv", x, &[("dilations", &[2, 1])])),
    ("conv strides and dilations", |x, _| {
        with("Conv", x, &[("strides", &[2, 2]), ("dilations", &[2, 2]), ("pads", &[2, 2, 2, 2])])
    }),
    ("conv groups", |x, _| with("Conv", x, &[("pads", &[1, 1, 1, 1]), ("group", &[2])])),
    ("conv depthwise", |x, _| with("Conv", x, &[("strides", &[2, 2]), ("pads", &[1, 1, 1, 1]), ("group", &[4])])),
    ("conv depthwise, two of each", |x, _| with("Conv", x, &[("group", &[4])])),
    ("conv asymmetric pads", |x, _| with("Conv", x, &[("strides", &[2, 2]), ("pads", &[1, 0, 0, 2])])),
    ("conv one axis", |x, _| with("Conv", x, &[("strides", &[2]), ("pads", &[1, 1])])),
    ("transposed plain", |x, _| with("ConvTranspose", x, &[])),
    ("transposed strides, output padding", |x, _| {
        with("ConvTranspose", x, &[("strides", &[2, 2]), ("pads", &[1, 1, 1, 1]), ("output_padding", &[1, 1])])
    }),
    ("transposed groups", |x, _| with("ConvTranspose", x, &[("strides", &[1, 2]), ("group", &[2])])),
    ("transposed dilation", |x, _| with("ConvTranspose", x, &[("dilations", &[2, 2]), ("pads", &[1, 1, 1, 1])])),
    ("transposed strides, dilation, output padding", |x, _| {
        with("ConvTranspose", x, &[("strides", &[2, 2]), ("dilations", &[2, 2]), ("output_padding", &[1, 1])])
    }),
    ("max pool apart", |x, _| with("MaxPool", x, &[("kernel_shape", &[2, 2]), ("strides", &[2, 2])])),
    ("max pool overlapping", |x, _| with("MaxPool", x, WIDE)),
    ("max pool padded", |x, _| with("MaxPool", x, WIDE_PADDED)),
    ("max pool dilated", |x, _| with("MaxPool", x, &[("kernel_shape", &[2, 2]), ("dilations", &[2, 2])])),
    ("average pool overlapping", |x, _| with("AveragePool", x, WIDE)),
    ("average pool, pads counted", |x, _| {
        with("AveragePool", x, &[WIDE_PADDED, &[("count_include_pad", &[1])]].concat())
    }),
    ("average pool, pads left out", |x, _| with("AveragePool", x, WIDE_PADDED)),
    ("average pool, ceil, pads counted", |x, _| {
        with("AveragePool", x, &[WIDE_PADDED, &[("count_include_pad", &[1]), ("ceil_mode", &[1])]].concat())
    }),
    ("global average pool", |x, _| with("GlobalAveragePool", x, &[])),
    ("batch normalisation, inference", |x, c| with("BatchNormalization", &[x, c].concat(), &[])),
    ("batch normalisation, training", |x, _| {
        let made = x[0].batch_norm(x[1], x[2], 1e-5);
        vec![made.y, made.mean, made.variance]
    }),
    ("layer normalisation", |x, _| with("LayerNormalization", x, &[("axis", &[1])])),
    ("instance normalisation", |x, _| with("InstanceNormalization", x, &[])),
    ("group normalisation", |x, _| with("GroupNormalization", x, &[("num_groups", &[2])])),
    ("softmax", |x, _| with("Softmax", x, &[("axis", &[1])])),
    ("log softmax", |x, _| with("LogSoftmax", x, &[])),
    ("gelu", |x, _| with("Gelu", x, &[])),
    ("gelu, tanh", |x, _| vec![x[0].builder().apply("Gelu", x, [("approximate", "tanh".into())])]),
    ("elu", |x, _| vec![x[0].builder().apply("Elu", x, [("alpha", Attr::Float(0.7))])]),
    ("mish", |x, _| with("Mish", x, &[])),
    ("hard swish", |x, _| with("HardSwish", x, &[])),
    ("resize nearest x2", |x, _| resized(x[0], "nearest", "asymmetric", &[2, 3, 6, 8])),
    ("resize nearest, uneven", |x, _| resized(x[0], "nearest", "asymmetric", &[2, 3, 7, 6])),
    ("resize bilinear", |x, _| resized(x[0], "linear", "pytorch_half_pixel", &[2, 3, 7, 8])),
    ("resize bilinear, smaller", |x, _| resized(x[0], "linear", "half_pixel", &[2, 3, 3, 2])),
    ("resize bilinear, align corners", |x, _| resized(x[0], "linear", "align_corners", &[2, 3, 7, 8])),
];

type Lists<'a> = &'a [(&'a str, &'a [i64])];

const WIDE: Lists = &[("kernel_shape", &[3, 3]), ("strides", &[2, 2])];
const WIDE_PADDED: Lists = &[("kernel_shape", &[3, 3]), ("strides", &[2, 2]), ("pads", &[1, 1, 1, 1])];
/// Attributes that are one number.
const NUMBERS: &[&str] = &["group", "axis", "num_groups", "count_include_pad", "ceil_mode"];

fn with<'b>(op_type: &str, x: &[Expr<'b>], lists: Lists) -> Vec<Expr<'b>> {
    let mut attrs = Attrs::default();
    for (name, values) in lists {
        let value = if NUMBERS.contains(name) { Attr::Int(values[0]) } else { Attr::Ints(values.to_vec()) };
        attrs.set(name, value);
    }
    vec![x[0].builder().apply(op_type, x, attrs)]
}

fn resized<'b>(x: Expr<'b>, mode: &str, coordinates: &str, sizes: &[i64]) -> Vec<Expr<'b>> {
    let attrs = [
        ("mode", mode.into()),
        ("coordinate_transformation_mode", coordinates.into()),
        ("nearest_mode", "floor".into()),
    ];
    x.builder().call("Resize", &[Some(x), None, None, Some(x.builder().ints(sizes))], attrs, 1)
}

/// What is stored of one case.
#[derive(Default)]
struct Stored {
    x: Vec<Tensor>,
    c: Vec<Tensor>,
    y: Vec<Tensor>,
    dy: Vec<Tensor>,
    dx: Vec<Tensor>,
}

fn stored() -> BTreeMap<String, Stored> {
    let mut cases: BTreeMap<String, Stored> = BTreeMap::new();
    for (name, tensor) in read_arrays(&fixture("torch_gradients.npz")).unwrap() {
        let (case, role) = name.split_once('/').unwrap();
        let case = cases.entry(case.to_owned()).or_default();
        let place = match role.trim_end_matches(|c: char| c.is_ascii_digit()) {
            "x" => &mut case.x,
            "c" => &mut case.c,
            "y" => &mut case.y,
            "dy" => &mut case.dy,
            "dx" => &mut case.dx,
            other => panic!("{name}: what is {other}?"),
        };
        assert!(role.ends_with(&place.len().to_string()), "{name} stands out of order");
        place.push(tensor);
    }
    cases
}

/// tract 0.23 takes only constant parameters here; its gradients are compared all the same.
const RESULT_NOT_IN_TRACT: &[&str] = &["batch normalisation, inference"];

/// Returns the results, where wanted, and the gradient of every operand as one graph.
fn graph(make: Make, stored: &Stored, with_results: bool) -> Result<Graph, String> {
    let builder = Builder::new("case");
    let constants: Vec<Expr> = stored.c.iter().map(|c| builder.constant("c", c.clone())).collect();
    let inputs: Vec<Expr> = stored.x.iter().map(|x| builder.input("x", x.dtype(), x.shape())).collect();
    let results = make(&inputs, &constants);
    if results.len() != stored.dy.len() || stored.x.len() != stored.dx.len() {
        return Err(format!("makes {} results, {} are stored", results.len(), stored.dy.len()));
    }
    let terms = results.iter().zip(&stored.dy).map(|(y, dy)| (*y * builder.constant("dy", dy.clone())).sum(&[], false));
    let loss = terms.reduce(|sum, term| sum + term).ok_or("makes no result")?;
    let found = gradients(loss, &inputs).map_err(|e| e.to_string())?;
    let results = if with_results { results } else { Vec::new() };
    let outputs: Vec<Expr> = results.iter().chain(&found).map(|e| e.unary("Identity")).collect();
    let names: Vec<String> = (0..outputs.len()).map(|i| format!("o{i}")).collect();
    let pairs: Vec<(&str, Expr)> = names.iter().map(String::as_str).zip(outputs).collect();
    builder.finish(&pairs).map_err(|e| e.to_string())
}

/// Returns the largest difference of one engine, relative to the largest element of each tensor.
fn error(engine: &dyn Engine, graph: &Graph, stored: &Stored) -> Result<f64, String> {
    let mut session = engine.load(graph, &SessionOptions::default()).map_err(|e| e.to_string())?;
    let found = session.run(&stored.x).map_err(|e| e.to_string())?;
    let mut worst = 0.0;
    let results = &stored.y[..found.len() - stored.dx.len()];
    for (found, expected) in found.iter().zip(results.iter().chain(&stored.dx)) {
        if found.shape() != expected.shape() {
            return Err(format!("shape {:?}, expected {:?}", found.shape(), expected.shape()));
        }
        let expected = floats(expected);
        let scale = expected.iter().fold(f32::MIN_POSITIVE, |m, v| m.max(v.abs()));
        let differences = floats(found).into_iter().zip(expected).map(|(a, b)| f64::from((a - b).abs() / scale));
        worst = differences.fold(worst, larger);
    }
    Ok(worst)
}

#[test]
fn results_and_gradients_are_those_of_pytorch_in_both_engines() {
    let stored = stored();
    let mut failed = Vec::new();
    for (name, make) in CASES {
        let Some(stored) = stored.get(*name) else { continue };
        for (engine, label) in [(ort() as &dyn Engine, "ONNX Runtime"), (&TractEngine, "tract")] {
            let with_results = label != "tract" || !RESULT_NOT_IN_TRACT.contains(name);
            match graph(*make, stored, with_results).and_then(|graph| error(engine, &graph, stored)) {
                Ok(worst) => {
                    println!("{name:<45} {label:<15} {worst:.1e}");
                    if worst.is_nan() || worst > TOLERANCE {
                        failed.push(format!("{name} in {label}: off by {worst:.1e}"));
                    }
                }
                Err(message) => failed.push(format!("{name} in {label}: {message}")),
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn stored_cases_of_pytorch_are_those_that_are_compared() {
    let stored: Vec<String> = stored().into_keys().collect();
    let mut compared: Vec<&str> = CASES.iter().map(|case| case.0).collect();
    compared.sort_unstable();
    assert_eq!(stored, compared);
}
