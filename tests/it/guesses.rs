//! Inputs of which the file tells nothing: what is quantized all the same, and what makes them known.

use std::path::Path;

use dfq_onnx::data::npz_bytes;
use dfq_onnx::ir::{Attr, DType, Graph, Tensor};
use dfq_onnx::onnx;
use serde_json::Value;

use crate::support::build::Build;
use crate::support::net::{layer, norm, normal, pads, run as outputs, with_dynamic_batch};
use crate::support::program::{Ran, as_typed, run};
use crate::support::relative_rms;

/// `x[N, 3, 12, 12] -> conv (and batch normalisation) -> activation -> conv -> relu -> pool -> gemm -> y[N, 5]`.
fn network(activation: &str, has_statistics: bool) -> Graph {
    let mut g = Build::at(14);
    g.input("x", &[1, 3, 12, 12]);
    layer(&mut g, "Conv", "x", "c", &[8, 3, 3, 3], 8, pads(1));
    if has_statistics {
        norm(&mut g, "c", "n", 8);
    }
    g.constant("zero", Tensor::from_f32(&[], &[0.0]));
    g.constant("six", Tensor::from_f32(&[], &[6.0]));
    let bounds = if activation == "Clip" { " zero six" } else { "" };
    g.node(activation, &format!("{}{bounds}", if has_statistics { "n" } else { "c" }), "a", []);
    layer(&mut g, "Conv", "a", "d", &[8, 8, 3, 3], 8, pads(1));
    g.node("Relu", "d", "r", []);
    g.node("GlobalAveragePool", "r", "p", []);
    g.node("Flatten", "p", "f", []);
    layer(&mut g, "Gemm", "f", "y", &[5, 8], 5, [("transB", Attr::Int(1))]);
    with_dynamic_batch(g.outputs("y"))
}

/// Token ids through a table, and products with two matrices: what the first reads are rows of the table.
fn words() -> Graph {
    let mut g = Build::at(13);
    g.fed("ids", DType::I64, "N, 6");
    g.constant("table", normal(&[20, 16], 1.0, 3));
    g.node("Gather", "table ids", "rows", []);
    layer(&mut g, "MatMul", "rows", "z", &[16, 8], 0, []);
    layer(&mut g, "MatMul", "z", "y", &[8, 4], 0, []);
    with_dynamic_batch(g.outputs("y"))
}

fn quantized(folder: &Path, graph: &Graph, flags: &str) -> Ran {
    std::fs::write(folder.join("model.onnx"), onnx::encode(graph).unwrap()).unwrap();
    let default = if flags.contains("--activations") { "" } else { "--activations auto" };
    run(folder, &format!("quantize model.onnx --samples 8 -o out.onnx {default} {flags}"))
}

/// Images from 0 to 255.
fn pixels(samples: usize, seed: u64) -> Tensor {
    let values = normal(&[samples, 3, 12, 12], 60.0, seed).to_f32().unwrap();
    let values: Vec<f32> = values.into_iter().map(|v| (v + 120.0).clamp(0.0, 255.0)).collect();
    Tensor::from_f32(&[samples, 3, 12, 12], &values)
}

/// Relative error of the quantized file on inputs from 0 to 255.
fn error(folder: &Path, graph: &Graph) -> f64 {
    let emitted = onnx::load(&folder.join("out.onnx")).unwrap();
    let inputs = [pixels(8, 9)];
    let (expected, found) = (outputs(graph, &inputs).unwrap(), outputs(&emitted, &inputs).unwrap());
    relative_rms(&found[0], &expected[0])
}

/// How many layers have float inputs, and the bits of the others' inputs.
fn float_inputs(report: &Value) -> [usize; 2] {
    let layers = report["layers"].as_array().unwrap();
    let float = layers.iter().filter(|layer| layer["input_bits"].is_null()).count();
    [float, layers.len() - float]
}

#[test]
fn layers_whose_ranges_rest_on_a_guess_have_float_inputs_until_something_tells() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("x.npz"), npz_bytes(&[("x", &pixels(16, 1))]).unwrap()).unwrap();
    let (plain, clipped, told) = (network("Relu", false), network("Clip", false), network("Relu", true));
    // The bounds of a Clip tell of what lies behind them.
    type Case<'a> = (&'a str, Graph, &'a str, [usize; 2], &'a str);
    let cases: Vec<Case> = vec![
        ("no statistics", plain.clone(), "", [3, 0], "assumed"),
        // The first convolution is faster in floating point.
        ("for kernels", plain.clone(), "--target ort-cpu", [2, 0], "assumed"),
        ("few bits", plain.clone(), "--precision w4a4", [3, 0], "assumed"),
        ("clipped", clipped, "", [2, 1], "assumed"),
        ("an interval", plain.clone(), "--input-range 0:255", [0, 3], "given"),
        ("preprocessing", plain.clone(), "--mean 0 --std 1 --scale 1", [0, 3], "given"),
        ("data", plain.clone(), "--data x.npz", [0, 3], "data"),
        ("the guess is taken", plain.clone(), "--activations quantized", [0, 3], "assumed"),
        ("float for all", plain, "--activations float --input-range 0:255", [3, 0], "given"),
        ("statistics", told, "", [0, 3], "first_layer"),
        ("token ids", words(), "", [1, 1], "graph"),
    ];
    let mut failed = Vec::new();
    for (name, graph, flags, expected, source) in cases {
        let ran = quantized(folder.path(), &graph, &format!("{flags} --format json"));
        if ran.code != Some(0) {
            failed.push(format!("{name}: exit {:?}: {}", ran.code, ran.stderr));
            continue;
        }
        let report = ran.json();
        let found = (float_inputs(&report), report["inputs"][0]["source"].as_str().unwrap_or_default().to_owned());
        if found != (expected, source.to_owned()) {
            failed.push(format!("{name}: {found:?}, expected {expected:?}, {source}"));
        }
        // A file that rests on no guess, or on one that matters to no grid, is right at any scale.
        let limit = if flags.contains("w4a4") { 0.25 } else { 0.05 };
        let is_right = !flags.contains("quantized") && name != "token ids" && name != "statistics";
        let error = if is_right { error(folder.path(), &graph) } else { 0.0 };
        if error > limit {
            failed.push(format!("{name}: relative error {error:.3} on pixels"));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn the_report_begins_with_what_is_a_guess_and_what_would_make_it_sure() {
    let folder = tempfile::tempdir().unwrap();
    let (plain, told) = (network("Relu", false), network("Relu", true));
    let first_lines = |ran: &Ran| ran.stdout.lines().take(6).collect::<Vec<&str>>().join(" ");
    let plain = quantized(folder.path(), &plain, "");
    assert!(!plain.stdout.contains("stored twice"), "{}", plain.stdout);
    let guessed = first_lines(&plain);
    let told_of = ["\"x\" (image)", "a guess", "--data", "--input-range", "--mean and --std", "3 of 3 layers"];
    let missing: Vec<&&str> = told_of.iter().filter(|word| !guessed.contains(**word)).collect();
    assert!(missing.is_empty(), "{missing:?}: {guessed}");
    let known = quantized(folder.path(), &told, "").stdout;
    assert!(!known.contains("a guess"), "{known}");

    let of_words = quantized(folder.path(), &words(), "").stdout;
    let told_of = ["\"ids\" (token ids)", "a guess", "--data", "token ids below 20"];
    assert!(told_of.iter().all(|word| of_words.contains(word)) && !of_words.contains("--input-range"), "{of_words}");
    let untouched = as_typed(folder.path(), "quantize model.onnx --effort fast --dry-run").output().unwrap();
    assert!(String::from_utf8_lossy(&untouched.stdout).contains("1 of 2 layers"), "auto is not the default");
    let inspected = run(folder.path(), "inspect model.onnx").stdout;
    assert!(inspected.contains("token ids below 20"), "{inspected}");
}

#[test]
fn inputs_that_are_handed_over_outrank_a_guess_and_a_part_of_them_is_judged_by() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, tensor: &Tensor| {
        std::fs::write(folder.path().join(name), npz_bytes(&[("x", tensor)]).unwrap()).unwrap();
    };
    write("many.npz", &pixels(10, 1));
    write("two.npz", &pixels(2, 1));
    let graph = network("Relu", false);
    let mut failed = Vec::new();
    for (data, samples, held_out) in [("many.npz", 10, 2), ("two.npz", 2, 1)] {
        let ran = quantized(folder.path(), &graph, &format!("--data {data} --format json"));
        let report = ran.json();
        let (of_data, verification) = (&report["data"], &report["verification"]);
        let found = [&of_data["samples"], &of_data["held_out"], &verification["samples"]].map(Value::as_u64);
        if found != [samples, held_out, held_out].map(Some) || verification["synthetic_inputs"] != false {
            failed.push(format!("{data}: {found:?} {}", verification["synthetic_inputs"]));
        }
        let (lo, hi) = (report["input"]["lo"].as_f64().unwrap(), report["input"]["hi"].as_f64().unwrap());
        if lo < 0.0 || !(150.0..=255.0).contains(&hi) {
            failed.push(format!("{data}: taken to be fed {lo} to {hi}"));
        }
    }
    // What statistics or flags say is not overruled: pixels were forgotten to be scaled.
    for (name, graph, flags) in [("statistics", network("Relu", true), ""), ("flags", graph, "--input-range -1:1")] {
        let ran = quantized(folder.path(), &graph, &format!("{flags} --data many.npz"));
        if ran.code != Some(2) || !ran.stderr.contains("many.npz") {
            failed.push(format!("{name}: exit {:?}: {}", ran.code, ran.stderr));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

/// Behind batch normalisation, statistics alone tell of normal distributions, whose ends the operators do not have.
#[test]
fn grids_do_not_go_beyond_what_operators_return() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [("Sigmoid", [0.0, 1.0]), ("Tanh", [-1.0, 1.0]), ("HardSwish", [-0.375, f64::INFINITY])];
    let mut failed = Vec::new();
    for (activation, [lo, hi]) in cases {
        let graph = network(activation, true);
        let report = quantized(folder.path(), &graph, "--format json").json();
        let range = report["ranges"].as_array().unwrap().iter().find(|range| range["tensor"] == "a").cloned().unwrap();
        let (from, to) = (range["lo"].as_f64().unwrap(), range["hi"].as_f64().unwrap());
        let step = (to - from) / 255.0;
        if range["source"] != "statistics" || from < lo - step || to > hi + step {
            failed.push(format!("{activation}: {from} to {to} from {}", range["source"]));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn grids_reach_the_bounds_of_what_they_hold() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        ("Sigmoid", "--input-range 0:1", [0.0, 1.0]),
        ("HardSigmoid", "--input-range 0:1", [0.0, 1.0]),
        ("Tanh", "--input-range 0:1e-3", [-1.0, 1.0]),
        ("Softmax", "--input-range 0:1", [0.0, 1.0]),
        ("Sigmoid", "--input-range 0:1 --target openvino", [0.0, 1.0]),
        ("Sigmoid", "--input-range 0:1 --precision w4a4 --all-layers", [0.0, 1.0]),
        ("Sigmoid", "", [0.0, 1.0]),
        ("Clip", "", [0.0, 6.0]),
    ];
    let mut failed = Vec::new();
    for (activation, flags, [lo, hi]) in cases {
        let ran = quantized(folder.path(), &network(activation, false), &format!("{flags} --format json"));
        let report = ran.json();
        let range = report["ranges"].as_array().unwrap().iter().find(|range| range["tensor"] == "a").cloned();
        let Some(range) = range else {
            failed.push(format!("{activation} {flags}: on no grid"));
            continue;
        };
        let (from, to) = (range["lo"].as_f64().unwrap(), range["hi"].as_f64().unwrap());
        // A grid around 0 may miss an end by a step.
        let step = (hi - lo) / if flags.contains("w4a4") { 15.0 } else { 255.0 };
        if from > lo + step || to < hi - step {
            failed.push(format!("{activation} {flags}: {from} to {to}"));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
