//! `dfq-onnx audit` and `--min-coverage`.

use std::path::Path;

use crate::support::fixture;
use crate::support::program::{Ran, run};

fn ran_in(folder: &Path, arguments: &str, code: i32) -> Ran {
    let ran = run(folder, arguments);
    assert_eq!(ran.code, Some(code), "{arguments}: {}\n{}", ran.stderr, ran.stdout);
    ran
}

#[test]
fn a_missed_coverage_writes_the_file_and_exits_with_4() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(fixture("digits_resnet8.onnx"), folder.path().join("model.onnx")).unwrap();
    let quick = "quantize model.onnx --samples 4 --target ort-cpu -o";
    ran_in(folder.path(), &format!("{quick} fast.onnx --min-coverage 0.9"), 0);
    let missed = ran_in(folder.path(), &format!("{quick} half.onnx --exclude .*conv2.* --min-coverage 0.9"), 4);
    assert!(missed.left.contains(&"half.onnx".into()), "{:?}", missed.left);
    assert!(missed.stderr.contains("share computed in integers"), "{}", missed.stderr);

    let cases = [
        ("audit half.onnx --min-coverage 0.9", 4),
        ("audit half.onnx --min-coverage 0.01", 0),
        ("audit fast.onnx --min-coverage 0.9", 0),
        ("audit model.onnx", 3),
        ("audit model.onnx --min-coverage 0.01", 3),
        ("verify model.onnx half.onnx --samples 4 --min-coverage 0.9", 4),
        ("verify model.onnx fast.onnx --samples 4 --min-coverage 0.9 --target onnx", 0),
        ("audit half.onnx --min-coverage 90", 2),
        ("audit absent.onnx", 3),
    ];
    let ran = cases.map(|(arguments, code)| (arguments, code, run(folder.path(), arguments)));
    let wrong: Vec<_> = ran.iter().filter(|(_, code, ran)| ran.code != Some(*code)).map(|r| (r.0, r.2.code)).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn the_report_and_the_audit_of_the_file_say_the_same_of_every_node() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(fixture("digits_mobilenet.onnx"), folder.path().join("model.onnx")).unwrap();
    let report = ran_in(folder.path(), "quantize model.onnx --samples 4 --target ort-cpu -o q.onnx --format json", 0);
    let audit = ran_in(folder.path(), "audit q.onnx --format json", 0).json();
    let reported = &report.json()["audit"];
    assert_eq!(reported["coverage"], audit["coverage"]);
    let runs = |nodes: &serde_json::Value| -> Vec<(String, String)> {
        let text = |v: &serde_json::Value| v.as_str().unwrap().to_owned();
        nodes.as_array().unwrap().iter().map(|n| (text(&n["name"]), text(&n["runs"]))).collect()
    };
    assert_eq!(runs(&reported["nodes"]), runs(&audit["nodes"]));
    assert!(audit["schema_version"].is_number() && audit["share"].as_f64().unwrap() > 0.5, "{audit}");
}
