//! Every recipe on every kind of grid over small nets, each with something that is easily got wrong.

use dfq_onnx::ir::{Attr, Attrs, DType, Graph, Tensor};
use dfq_onnx::plan::{Policy, Target};
use dfq_onnx::recipes::{RECIPES, Recipe};
use dfq_onnx::runtime::TractEngine;
use dfq_onnx::stats::{InputStatistics, guess_input, read_batch_norms};
use dfq_onnx::verify::{Engines, VerifyOptions, verify};

use crate::support::build::Build;
use crate::support::net::{layer, norm, normal, pads, run, with_dynamic_batch};
use crate::support::quantized::quantized_by;
use crate::support::{ort, relative_rms};

/// What rounding may leave of 8 bits in nets of two to four layers: a wrong axis, sign or scale leaves tens of percent.
const LIMIT_8_BITS: f64 = 0.06;
/// Fewer bits may cost much, all the more where inputs are nearly grey, so that errors of weights add up; what is not even of
/// the size of the float output is no rounding.
const LIMIT_FEW_BITS: f64 = 2.0;

fn net(opset: i64, input: &[usize], build: impl FnOnce(&mut Build)) -> Graph {
    let mut g = Build::at(opset);
    g.input("x", input);
    build(&mut g);
    g.outputs("y")
}

fn ints(name: &'static str, values: &[i64]) -> (&'static str, Attr) {
    (name, values.to_vec().into())
}

/// `y = clip(x, 0, 1)` as operator sets below 11 write it.
fn old_clip(g: &mut Build, x: &str, y: &str) {
    g.node("Clip", x, y, [("min", Attr::Float(0.0)), ("max", Attr::Float(1.0))]);
}

fn clip(g: &mut Build, x: &str, y: &str) {
    g.constant(&format!("{y}_lo"), Tensor::from_f32(&[], &[0.0]));
    g.constant(&format!("{y}_hi"), Tensor::from_f32(&[], &[0.7]));
    g.node("Clip", &format!("{x} {y}_lo {y}_hi"), y, []);
}

fn reshape(g: &mut Build, x: &str, y: &str, shape: &[i64]) {
    g.ints(&format!("{y}_shape"), shape);
    g.node("Reshape", &format!("{x} {y}_shape"), y, []);
}

/// Sets elements of an initializer.
fn set(graph: &mut Graph, name: &str, range: std::ops::Range<usize>, change: impl Fn(f32) -> f32) {
    let id = graph.find(name).unwrap();
    let tensor = graph.constant_of(id).unwrap();
    let (shape, mut values) = (tensor.shape().to_vec(), tensor.to_f32().unwrap());
    values[range].iter_mut().for_each(|v| *v = change(*v));
    graph.value_mut(id).constant = Some(Tensor::from_f32(&shape, &values));
}

fn products() -> Vec<(&'static str, Graph)> {
    vec![
        ("a single Gemm", with_dynamic_batch(net(13, &[1, 12], |g| layer(g, "Gemm", "x", "y", &[12, 5], 5, [])))),
        (
            "MatMuls without bias on rank 3, as wide as long",
            with_dynamic_batch(net(17, &[1, 8, 8], |g| {
                layer(g, "MatMul", "x", "a", &[8, 8], 0, []);
                clip(g, "a", "r");
                layer(g, "MatMul", "r", "y", &[8, 8], 0, []);
            })),
        ),
        (
            "a Conv1d between MatMuls, as wide as long",
            net(17, &[8, 8, 8], |g| {
                layer(g, "MatMul", "x", "a", &[8, 8], 0, []);
                g.node("Relu", "a", "ra", []);
                layer(g, "Conv", "ra", "b", &[8, 8, 3], 8, [ints("pads", &[1, 1])]);
                g.node("Relu", "b", "rb", []);
                layer(g, "MatMul", "rb", "y", &[8, 4], 0, []);
            }),
        ),
        (
            "Gemms with biases for all and of two axes",
            net(11, &[8, 6], |g| {
                g.constant("a_w", normal(&[6, 10], 0.5, 1));
                g.constant("a_b", Tensor::from_f32(&[1], &[0.3]));
                g.node("Gemm", "x a_w a_b", "a", []);
                g.node("Relu", "a", "r", []);
                g.constant("y_w", normal(&[3, 10], 0.4, 2));
                g.constant("y_b", normal(&[1, 3], 0.4, 3));
                g.node("Gemm", "r y_w y_b", "y", [("transB", Attr::Int(1))]);
            }),
        ),
    ]
}

fn convolutions() -> Vec<(&'static str, Graph)> {
    vec![
        ("a single Conv without bias", net(13, &[1, 3, 8, 8], |g| layer(g, "Conv", "x", "y", &[4, 3, 3, 3], 0, []))),
        (
            "Conv3d",
            with_dynamic_batch(net(13, &[1, 2, 4, 4, 4], |g| {
                layer(g, "Conv", "x", "a", &[4, 2, 2, 2, 2], 4, []);
                g.node("Relu", "a", "r", []);
                layer(g, "Conv", "r", "y", &[3, 4, 3, 3, 3], 3, []);
            })),
        ),
        (
            "auto_pad, caps and normalisation at operator set 7",
            with_dynamic_batch(net(7, &[1, 3, 9, 9], |g| {
                let same = [("auto_pad", Attr::String("SAME_UPPER".into())), ints("strides", &[2, 2])];
                layer(g, "Conv", "x", "a", &[8, 3, 3, 3], 0, same.clone());
                norm(g, "a", "n", 8);
                old_clip(g, "n", "r");
                layer(g, "Conv", "r", "b", &[8, 1, 3, 3], 0, [same[0].clone(), ("group", Attr::Int(8))]);
                norm(g, "b", "m", 8);
                old_clip(g, "m", "s");
                layer(g, "Conv", "s", "y", &[4, 8, 1, 1], 4, []);
            })),
        ),
        (
            "ConvTranspose, plain and grouped",
            net(17, &[8, 4, 5, 5], |g| {
                let up = ints("strides", &[2, 2]);
                layer(g, "ConvTranspose", "x", "a", &[4, 6, 3, 3], 6, [up.clone(), ints("output_padding", &[1, 1])]);
                g.node("Relu", "a", "r", []);
                let attrs = [up, ("group", Attr::Int(2)), pads(1)[0].clone()];
                layer(g, "ConvTranspose", "r", "b", &[6, 2, 4, 4], 4, attrs);
                g.node("Relu", "b", "s", []);
                layer(g, "Conv", "s", "y", &[2, 4, 3, 3], 2, []);
            }),
        ),
        ("a weight and a bias that two layers read", net(13, &[8, 4, 6, 6], shared)),
        ("a padded mean of high channels", with_dynamic_batch(high())),
        ("dead channels and a dead layer", dead()),
    ]
}

fn shared(g: &mut Build) {
    layer(g, "Conv", "x", "a", &[4, 4, 3, 3], 4, pads(1));
    g.node("Relu", "a", "r", []);
    g.node("Conv", "r a_w a_b", "b", pads(1));
    g.node("Relu", "b", "s", []);
    g.node("Conv", "s a_w", "c", pads(1));
    g.node("Add", "c r", "y", []);
}

/// Channels that lie far above 0 behind their normalisation, and a mean over padding that is counted.
fn high() -> Graph {
    net(13, &[1, 3, 8, 8], |g| {
        layer(g, "Conv", "x", "a", &[6, 3, 3, 3], 0, []);
        g.constant("gamma", normal(&[6], 0.3, 21));
        g.constant("beta", Tensor::from_f32(&[6], &[9.0, 6.0, 3.0, 1.0, 0.0, 12.0]));
        g.constant("mean", normal(&[6], 0.3, 22));
        g.constant("var", Tensor::from_f32(&[6], &[1.0; 6]));
        g.node("BatchNormalization", "a gamma beta mean var", "n", []);
        g.node("Relu", "n", "r", []);
        let window = [ints("kernel_shape", &[3, 3]), ints("pads", &[1; 4]), ("count_include_pad", Attr::Int(1))];
        g.node("AveragePool", "r", "p", window);
        layer(g, "Conv", "p", "y", &[4, 6, 1, 1], 4, []);
    })
}

fn dead() -> Graph {
    let mut graph = net(13, &[8, 3, 6, 6], |g| {
        layer(g, "Conv", "x", "a", &[6, 3, 3, 3], 6, pads(1));
        g.node("Relu", "a", "r", []);
        layer(g, "Conv", "r", "b", &[6, 6, 3, 3], 6, pads(1));
        layer(g, "Conv", "r", "c", &[6, 6, 1, 1], 0, []);
        g.node("Add", "b c", "s", []);
        g.node("Relu", "s", "t", []);
        layer(g, "Conv", "t", "y", &[2, 6, 1, 1], 2, []);
    });
    set(&mut graph, "a_w", 0..54, |_| 0.0);
    set(&mut graph, "a_b", 0..1, |_| 0.0);
    set(&mut graph, "c_w", 0..36, |_| 0.0);
    graph
}

fn heads() -> Vec<(&'static str, Graph)> {
    let features = |g: &mut Build| {
        layer(g, "Conv", "x", "a", &[4, 3, 3, 3], 4, []);
        g.node("Relu", "a", "r", []);
    };
    vec![
        (
            "positions that become samples",
            net(13, &[8, 3, 6, 6], |g| {
                features(g);
                reshape(g, "r", "f", &[-1, 4]);
                layer(g, "Gemm", "f", "y", &[4, 3], 3, []);
            }),
        ),
        (
            "a cap behind a Flatten",
            with_dynamic_batch(net(13, &[1, 3, 6, 6], |g| {
                layer(g, "Conv", "x", "a", &[4, 3, 3, 3], 4, []);
                g.node("Flatten", "a", "f", []);
                clip(g, "f", "r");
                layer(g, "Gemm", "r", "y", &[64, 3], 3, []);
            })),
        ),
        ("an output in the middle", {
            let mut graph = net(13, &[8, 3, 6, 6], |g| {
                features(g);
                layer(g, "Conv", "r", "b", &[4, 4, 3, 3], 4, pads(1));
                g.node("Relu", "b", "s", []);
                layer(g, "Conv", "s", "y", &[2, 4, 1, 1], 2, []);
            });
            for name in ["a", "s"] {
                let id = graph.find(name).unwrap();
                graph.value_mut(id).dtype = Some(DType::F32);
                graph.outputs.push(id);
            }
            graph
        }),
        (
            "channels that are joined and padded",
            net(13, &[8, 3, 6, 6], |g| {
                features(g);
                layer(g, "Conv", "r", "b", &[3, 4, 1, 1], 3, []);
                g.node("LeakyRelu", "b", "s", Attrs::default());
                g.node("Concat", "r s", "j", [("axis", Attr::Int(1))]);
                g.ints("around", &[0, 0, 1, 1, 0, 0, 1, 1]);
                g.node("Pad", "j around", "p", []);
                layer(g, "Conv", "p", "y", &[2, 7, 3, 3], 2, []);
            }),
        ),
    ]
}

fn nets() -> Vec<(&'static str, Graph)> {
    [products(), convolutions(), heads()].into_iter().flatten().collect()
}

/// Every recipe whose result is not trained any further: the others begin as one of these.
fn untrained() -> impl Iterator<Item = &'static Recipe> {
    RECIPES.iter().filter(|recipe| recipe.stages.is_empty())
}

/// Says what is wrong with `graph` as a recipe quantizes it.
fn fault(graph: &Graph, policy: &Policy, recipe: &str, is_checked: bool) -> Result<(), String> {
    let made = quantized_by(graph, policy, recipe).map_err(|e| e.to_string())?;
    let input = guess_input(graph, &read_batch_norms(graph));
    let inputs = samples(graph, &input);
    let (expected, found) = (run(graph, &inputs)?, run(&made.emitted, &inputs)?);
    let eight = policy.weight_bits == 8 && policy.activation_bits == 8;
    let limit = if eight { LIMIT_8_BITS } else { LIMIT_FEW_BITS };
    for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
        let error = relative_rms(found, expected);
        if error > limit {
            return Err(format!("output {i} is {error:.3} off"));
        }
    }
    if !is_checked {
        return Ok(());
    }
    let tract = TractEngine;
    let engines = Engines { ort: Some(ort()), tract: Some(&tract) };
    let options = VerifyOptions { samples: 8, ..VerifyOptions::default() };
    let result = verify(graph, &made.emitted, &engines, None, &options).map_err(|e| e.to_string())?;
    match result.checks.iter().find(|check| !check.passed) {
        Some(check) => Err(format!("{} ({}): {}", check.name, check.engine, check.message)),
        None => Ok(()),
    }
}

/// Returns one batch that the graph takes.
fn samples(graph: &Graph, input: &InputStatistics) -> Vec<Tensor> {
    let batch = graph.value(graph.inputs[0]).shape.as_ref().and_then(|s| s[0].known()).unwrap_or(8);
    input.synthetic(graph, 8, 77, 1).unwrap().iter().map(|t| t.rows(0..batch).unwrap()).collect()
}

#[test]
fn every_recipe_holds_on_every_grid_for_nets_with_traps() {
    let forms =
        [("per channel", true, true), ("per tensor", false, true), ("affine", true, false), ("both", false, false)];
    let precisions = [(8, 8), (4, 4), (2, 8)];
    let mut failed = Vec::new();
    for (net, (name, graph)) in nets().into_iter().enumerate() {
        for (r, recipe) in untrained().enumerate() {
            for (f, (form, per_channel, symmetric)) in forms.into_iter().enumerate() {
                for (p, (weight_bits, activation_bits)) in precisions.into_iter().enumerate() {
                    let bits = Policy { weight_bits, activation_bits, all_layers: true, ..Policy::default() };
                    let policy = Policy { per_channel, symmetric, ..bits };
                    // The checks of one file run four sessions: each net and recipe gets them at every precision, on
                    // grids that take turns.
                    let is_checked = (net + r + p) % forms.len() == f;
                    if let Err(message) = fault(&graph, &policy, recipe.name, is_checked) {
                        let what = format!("{name}, {}, {form}, w{weight_bits}a{activation_bits}", recipe.name);
                        failed.push(format!("{what}: {message}"));
                    }
                }
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// A layer whose channel 0 is multiplied by the first value, behind it one whose columns 0 and 1 are by the others.
fn wild([row, column, next]: [f32; 3], is_normalised: bool) -> Graph {
    let mut graph = with_dynamic_batch(net(13, &[1, 3, 6, 6], |g| {
        layer(g, "Conv", "x", "a", &[6, 3, 3, 3], 6, []);
        if is_normalised {
            norm(g, "a", "n", 6);
        }
        g.node("Relu", if is_normalised { "n" } else { "a" }, "r", []);
        layer(g, "Conv", "r", "b", &[6, 6, 1, 1], 6, []);
        g.node("Relu", "b", "s", []);
        layer(g, "Conv", "s", "y", &[2, 6, 1, 1], 2, []);
    }));
    set(&mut graph, "a_w", 0..27, |w| w * row);
    for o in 0..6 {
        set(&mut graph, "b_w", o * 6..o * 6 + 1, |w| w * column);
        set(&mut graph, "b_w", o * 6 + 1..o * 6 + 2, |w| w * next);
    }
    graph
}

/// Grids must be finite and the file must compute numbers, or the error must name what is wrong; never a grid of
/// infinities, nor a file of zeros that nobody is told of.
#[test]
fn weights_of_any_size_give_finite_grids_or_an_error_that_names_them() {
    let mut failed = Vec::new();
    let sizes = [
        [1e30, 1e-30, 1.0],
        [1e30, 1.0, 1.0],
        [1e-30, 1e30, 1.0],
        [1e-30, 1.0, 1.0],
        [1.0, 1e30, 1.0],
        [1e-42, 1.0, 1.0],
        [1e38, 1e-38, 1.0],
        [1e30, 1e-30, 1e30],
        [1e-30, 1.0, 1e-30],
    ];
    for (values, is_normalised) in sizes.into_iter().flat_map(|v| [(v, false), (v, true)]) {
        let graph = wild(values, is_normalised);
        let inputs = InputStatistics::assumed().synthetic(&graph, 4, 5, 1).unwrap();
        for recipe in untrained() {
            for (per_channel, symmetric) in [(true, true), (false, true), (false, false)] {
                let policy = Policy { per_channel, symmetric, all_layers: true, ..Policy::default() };
                let what =
                    format!("{values:?}, normalised {is_normalised}, {}, {per_channel} {symmetric}", recipe.name);
                match quantized_by(&graph, &policy, recipe.name) {
                    Err(error) if ["float32", "becomes inf"].iter().any(|part| error.to_string().contains(part)) => {}
                    Err(error) => failed.push(format!("{what}: {error}")),
                    Ok(made) => {
                        let constants = made.emitted.value_ids().filter_map(|id| made.emitted.constant_of(id));
                        let floats = constants.filter(|t| t.dtype() == DType::F32).flat_map(|t| t.to_f32().unwrap());
                        if floats.into_iter().any(|v| !v.is_finite()) {
                            failed.push(format!("{what}: a constant is not finite"));
                        }
                        let scales = made.solution.weights.iter().flat_map(|w| &w.grid.scale);
                        if scales.into_iter().any(|s| !s.is_normal() || *s <= 0.0) {
                            failed.push(format!("{what}: a weight scale is no positive number"));
                        }
                        match run(&made.emitted, &inputs) {
                            Ok(found) if found[0].to_f32().unwrap().iter().all(|v| v.is_finite()) => {}
                            Ok(_) => failed.push(format!("{what}: its output is not finite")),
                            Err(message) => failed.push(format!("{what}: {message}")),
                        }
                    }
                }
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn every_recipe_holds_where_integer_kernels_want_every_tensor_quantized() {
    let mut failed = Vec::new();
    for (name, graph) in nets() {
        for recipe in untrained() {
            let policy = Policy { target: Target::Portable, all_layers: true, ..Policy::default() };
            if let Err(message) = fault(&graph, &policy, recipe.name, true) {
                failed.push(format!("{name}, {}: {message}", recipe.name));
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
