//! `--effort auto`: trains only where the result without training is not good.

use dfq_onnx::ir::{Attr, DType};
use dfq_onnx::onnx;

use crate::support::build::Build;
use crate::support::net::layer;
use crate::support::program::as_typed;

#[test]
fn nothing_is_trained_where_the_result_without_training_is_good() {
    let cases = [
        ("good without training", "--precision w7a8", ("fast", true, false)),
        ("asked for", "--precision w7a8 --effort auto", ("fast", true, false)),
        (
            "not good",
            "--precision w2a3 --all-layers --effort auto --steps 1 --images 16 --batch 8",
            ("cascade", false, true),
        ),
        ("no time", "--precision w2a3 --all-layers --effort auto --max-minutes 0.01", ("cascade", false, false)),
        ("training asked for", "--precision w7a8 --effort balanced --max-minutes 0.01", ("cascade", false, true)),
        ("steps asked for", "--precision w7a8 --steps 1 --images 16 --batch 8", ("cascade", false, true)),
    ];
    let mut failed = Vec::new();
    for (name, flags, expected) in cases {
        let folder = tempfile::tempdir().unwrap();
        let fixed =
            "quantize {fixtures}/digits_resnet8.onnx -o q.onnx --mean 0.3 --std 0.34 --samples 4 --accept broken";
        let ran = as_typed(folder.path(), &format!("{fixed} --format json {flags}")).output().unwrap();
        let report: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
        let (recipe, trained) = (report["recipe"].as_str().unwrap(), report["training"].as_array().unwrap().len());
        if (recipe, report["sufficient"].is_string(), trained > 0) != expected {
            failed.push(format!("{name}: {recipe}, {}, {trained} stages", report["sufficient"]));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn a_network_that_cannot_be_trained_is_quantized_without_training() {
    let pads = || [("pads", Attr::Ints(vec![1; 6]))];
    let mut g = Build::at(17);
    g.fed("x", DType::F32, "N, 1, 8, 8, 8");
    layer(&mut g, "Conv", "x", "c", &[4, 1, 3, 3, 3], 4, pads());
    g.node("Relu", "c", "r", []);
    layer(&mut g, "Conv", "r", "y", &[2, 4, 3, 3, 3], 2, pads());
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("m.onnx"), onnx::encode(&g.outputs("y")).unwrap()).unwrap();
    let fixed = "quantize m.onnx -o q.onnx --input-range -2:2 --samples 4 --precision w2a2 --all-layers \
                 --activations quantized --accept broken";
    let mut failed = Vec::new();
    for (effort, code) in [("", 0), ("--effort auto", 0), ("--effort balanced", 3)] {
        let ran = as_typed(folder.path(), &format!("{fixed} --format json {effort}")).output().unwrap();
        let [stdout, stderr] = [&ran.stdout, &ran.stderr].map(|bytes| String::from_utf8_lossy(bytes));
        if ran.status.code() != Some(code) || (code == 0 && !stdout.contains("not_trained")) {
            failed.push(format!("{effort}: {:?} {stderr}", ran.status.code()));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn layers_are_ranked_where_nothing_is_trained_too() {
    let folder = tempfile::tempdir().unwrap();
    let fixed = "quantize {fixtures}/digits_resnet8.onnx -o q.onnx --mean 0.3 --std 0.34 --samples 4 --format json";
    let ran = as_typed(folder.path(), &format!("{fixed} --precision w7a8 --sensitivity")).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert!(report["sufficient"].is_string() && report["sensitivity"].is_object(), "{}", report["sensitivity"]);
}
