//! Inputs of the user's in every command that runs models: arrays by name for several inputs, open sizes, and the scale of
//! images.

use std::path::Path;

use dfq_onnx::data::npz_bytes;
use dfq_onnx::ir::{Attr, DType, Graph, Tensor};
use dfq_onnx::onnx;

use crate::support::build::Build;
use crate::support::net::{layer, normal, pads};
use crate::support::program::{Ran, run};

/// Returns a classifier of an image of open size, with a size and a factor beside it.
fn several_inputs() -> Graph {
    let mut g = Build::at(13);
    g.fed("image", DType::F32, "N, 3, H, W");
    g.fed("size", DType::I64, "N, 2");
    g.fed("factor", DType::F32, "N, 2");
    layer(&mut g, "Conv", "image", "c", &[8, 3, 3, 3], 8, pads(1));
    g.node("Relu", "c", "r", []);
    g.node("GlobalAveragePool", "r", "p", []);
    g.node("Flatten", "p", "f", []);
    g.constant("sixteenth", Tensor::from_f32(&[], &[0.0625]));
    g.node("Cast", "size", "s", [("to", Attr::Int(1))]);
    g.node("Mul", "s sixteenth", "t", []);
    g.node("Concat", "f t factor", "all", [("axis", Attr::Int(1))]);
    layer(&mut g, "Gemm", "all", "y", &[5, 12], 5, [("transB", 1.into())]);
    g.outputs("y")
}

fn write(folder: &Path, name: &str, arrays: &[(&str, &Tensor)]) {
    std::fs::write(folder.join(name), npz_bytes(arrays).unwrap()).unwrap();
}

/// Returns a folder with the model, its quantized form, and arrays for its inputs.
fn prepared() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("m.onnx"), onnx::encode(&several_inputs()).unwrap()).unwrap();
    let image = normal(&[10, 3, 16, 16], 0.8, 1);
    let size = Tensor::from_i64(&[10, 2], &[16; 20]);
    let factor = Tensor::from_f32(&[10, 2], &[1.0; 20]);
    let labels = Tensor::from_i64(&[10], &[0, 1, 2, 3, 4, 0, 1, 2, 3, 4]);
    let inputs = [("factor", &factor), ("image", &image), ("size", &size)];
    write(folder.path(), "inputs.npz", &inputs);
    write(folder.path(), "labelled.npz", &[&inputs[..], &[("labels", &labels)]].concat());
    write(folder.path(), "image.npz", &inputs[1..2]);
    write(folder.path(), "uneven.npz", &[&inputs[..2], &[("size", &size.rows(0..4).unwrap())]].concat());
    ok(folder.path(), "quantize m.onnx -o q.onnx --input-shape image:1x3x16x16 --input-range -2:2 --samples 8");
    folder
}

fn ok(folder: &Path, arguments: &str) -> Ran {
    let ran = run(folder, arguments);
    assert_eq!(ran.code, Some(0), "{arguments}: {}{}", ran.stdout, ran.stderr);
    ran
}

#[test]
fn commands_that_run_models_take_arrays_by_name_and_open_sizes() {
    let folder = prepared();
    let verified = ok(folder.path(), "verify m.onnx q.onnx --data inputs.npz --format json").json();
    assert_eq!((&verified["samples"], &verified["synthetic_inputs"]), (&10.into(), &false.into()));
    assert_eq!(verified["notes"].as_array().unwrap().len(), 0, "{verified:#}");
    let some = ok(folder.path(), "verify m.onnx q.onnx --data inputs.npz --samples 4 --format json").json();
    assert_eq!(some["samples"], 4);
    assert!(some["notes"][0].as_str().unwrap().contains("4 of the 10 samples"), "{some:#}");
    for model in ["m.onnx", "q.onnx"] {
        let counted = ok(folder.path(), &format!("eval {model} labelled.npz --input-range -2:2 --format json")).json();
        assert_eq!(counted["images"], 10);
    }
    ok(folder.path(), "bench m.onnx q.onnx --data inputs.npz --runs 2 --batch 10");
    ok(folder.path(), "bench m.onnx q.onnx --runs 2 --input-shape image:1x3x16x16");
    ok(folder.path(), "verify m.onnx q.onnx --samples 4 --input-shape image:1x3x16x16");
    ok(folder.path(), "quantize m.onnx -o r.onnx --input-shape image:1x3x16x16 --data inputs.npz --samples 8");
    let evaluated = "quantize m.onnx -o r.onnx --input-shape image:1x3x16x16 --input-range -2:2 --eval labelled.npz";
    ok(folder.path(), evaluated);
}

#[test]
fn arrays_that_do_not_fit_are_refused_with_what_is_missing() {
    let folder = prepared();
    let cases = [
        ("verify m.onnx q.onnx --data image.npz", 3, "expected an array for each input (image, size, factor)"),
        ("eval m.onnx inputs.npz", 3, "array \"labels\""),
        ("bench m.onnx --data inputs.npz --batch 11", 2, "holds 10 sample(s)"),
        ("bench m.onnx --runs 1", 3, "--input-shape"),
        ("verify m.onnx q.onnx --input-shape picture:1x3x16x16", 2, "\"image\""),
        ("quantize m.onnx --input-shape image:1x3x16x16 --data uneven.npz", 3, "as many samples of every input"),
    ];
    let mut wrong = Vec::new();
    for (command, code, says) in cases {
        let ran = run(folder.path(), command);
        if ran.code != Some(code) || !ran.stderr.contains(says) {
            wrong.push(format!("{command}: exit {:?}, expected {code} with {says}: {}", ran.code, ran.stderr));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn images_on_another_scale_are_refused_where_the_scale_is_known_and_told_of_where_it_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let digits = "{fixtures}/digits_resnet8.onnx";
    let labelled = "{fixtures}/digits_test.npz";
    let right = "--mean 0.3 --std 0.34";
    ok(folder.path(), &format!("quantize {digits} -o q.onnx --samples 4"));
    let mut bare = Build::at(13);
    bare.fed("x", DType::F32, "N, 1, 32, 32");
    layer(&mut bare, "Conv", "x", "c", &[10, 1, 3, 3], 10, pads(1));
    bare.node("GlobalAveragePool", "c", "p", []);
    bare.node("Flatten", "p", "y", []);
    std::fs::write(folder.path().join("bare.onnx"), onnx::encode(&bare.outputs("y")).unwrap()).unwrap();
    let (refused, silent) = ("the model expects", "");
    let (unsure, one_sided) = ("preprocessing is unknown", "no input below 0");
    let cases = [
        (format!("eval {digits} {labelled} {right}"), 0, silent),
        (format!("eval {digits} {labelled}"), 0, one_sided),
        (format!("eval {digits} {labelled} --scale 1"), 2, refused),
        (format!("eval {digits} {labelled} --mean 120 --std 60"), 2, refused),
        (format!("eval {digits} {labelled} --scale 1 --input-range 0:255"), 0, silent),
        (format!("eval {digits} {labelled} {right} --input-range 0:255"), 2, refused),
        (format!("eval q.onnx {labelled} {right}"), 0, silent),
        (format!("eval q.onnx {labelled}"), 0, refused),
        (format!("eval q.onnx {labelled} --scale 1"), 0, refused),
        (format!("eval bare.onnx {labelled}"), 0, unsure),
        (format!("eval bare.onnx {labelled} --mean 0.5 --std 0.5"), 0, silent),
        (format!("verify {digits} q.onnx --samples 4 --data {labelled} {right}"), 0, silent),
        (format!("verify {digits} q.onnx --samples 4 --data {labelled} --scale 1"), 2, refused),
        (format!("quantize {digits} -o r.onnx --samples 4 --eval {labelled} --scale 1"), 2, refused),
        (format!("quantize {digits} -o r.onnx --samples 4 --eval {labelled} {right}"), 0, silent),
    ];
    let mut wrong = Vec::new();
    for (command, code, says) in cases {
        let ran = run(folder.path(), &command);
        let told = ran.stderr.contains(refused) || ran.stderr.contains(unsure);
        if ran.code != Some(code) || !ran.stderr.contains(says) || told == says.is_empty() {
            wrong.push(format!("{command}: exit {:?}, expected {code} with \"{says}\": {}", ran.code, ran.stderr));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn pixels_of_every_scale_become_inputs_as_flags_say() {
    let folder = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0..16 * 32 * 32u32).map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    let scaled = |factor: f32| {
        let values: Vec<f32> = bytes.iter().map(|&b| f32::from(b) * factor).collect();
        Tensor::from_f32(&[16, 1, 32, 32], &values)
    };
    let raw = Tensor::new(DType::U8, vec![16, 1, 32, 32], bytes.clone().into()).unwrap();
    write(folder.path(), "bytes.npz", &[("images", &raw)]);
    write(folder.path(), "unit.npz", &[("images", &scaled(1.0 / 255.0))]);
    write(folder.path(), "raw.npz", &[("images", &scaled(1.0))]);
    let cases = [
        "bytes.npz --mean 0.5 --std 0.5",
        "bytes.npz --mean 127.5 --std 127.5 --scale 1",
        "unit.npz --mean 0.5 --std 0.5",
        "unit.npz --mean 0.5 --std 0.5 --scale 1",
        "raw.npz --mean 127.5 --std 127.5",
        "raw.npz --mean 0.5 --std 0.5 --scale 0.00392156862745098",
    ];
    let mut wrong = Vec::new();
    for flags in cases {
        let command =
            format!("quantize {{fixtures}}/digits_resnet8.onnx --samples 4 --dry-run --format json --data {flags}");
        let ran = run(folder.path(), &command);
        let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap_or_default();
        let near = |field: &str, expected: f64| (json["input"][field].as_f64().unwrap_or(9e9) - expected).abs() < 1e-4;
        if ran.code != Some(0) || !near("lo", -1.0) || !near("hi", 1.0) {
            wrong.push(format!("{flags}: exit {:?}, {}\n{}", ran.code, json["input"], ran.stderr));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_network_of_bytes_takes_no_means() {
    let folder = tempfile::tempdir().unwrap();
    let mut g = Build::at(13);
    g.fed("x", DType::U8, "N, 1, 32, 32");
    g.node("Cast", "x", "f", [("to", Attr::Int(1))]);
    layer(&mut g, "Conv", "f", "c", &[10, 1, 3, 3], 10, pads(1));
    g.node("GlobalAveragePool", "c", "p", []);
    g.node("Flatten", "p", "y", []);
    std::fs::write(folder.path().join("m.onnx"), onnx::encode(&g.outputs("y")).unwrap()).unwrap();
    let digits = "{fixtures}/digits_test.npz";
    ok(folder.path(), &format!("eval m.onnx {digits} --limit 10"));
    for command in [
        format!("eval m.onnx {digits} --mean 0.3 --std 0.34"),
        format!("eval m.onnx {digits} --scale 0.5"),
        format!("quantize m.onnx -o q.onnx --eval {digits} --mean 0.3 --std 0.34"),
    ] {
        let ran = run(folder.path(), &command);
        let says = ["input \"x\" takes uint8", "leave out --mean, --std and --scale"];
        assert!(ran.code == Some(2) && says.iter().all(|s| ran.stderr.contains(s)), "{command}: {}", ran.stderr);
        assert!(ran.left.is_empty(), "{:?}", ran.left);
    }
}
