//! `--format json` where a command fails: a document on stdout, words on stderr.

use crate::support::nets::sound;
use crate::support::program::run;

#[test]
fn errors_are_json_too_where_results_would_be() {
    let folder = tempfile::tempdir().unwrap();
    sound(folder.path());
    std::fs::write(folder.path().join("page.onnx"), "<!doctype html><html></html>").unwrap();
    let cases = [
        ("quantize absent.onnx --format json", "read", 3, "cannot read absent.onnx"),
        ("inspect page.onnx --format=json", "malformed", 3, "web page"),
        ("lint model.onnx --format json", "unsupported", 3, "is not quantized"),
        ("verify model.onnx model.onnx --format json", "usage", 2, "the same model"),
        ("quantize model.onnx -o absent/x.onnx --format json", "write", 5, "there is no folder absent"),
        ("quantize model.onnx --mean 1 --format json", "usage", 2, "--mean without --std"),
        ("quantize model.onnx --bits four --format json", "usage", 2, "whole number from 2 to 8"),
        ("quantize --format json", "usage", 2, "<MODEL>"),
        ("bench model.onnx --ort-lib absent.so --format json", "resources", 5, "absent.so"),
    ];
    let mut wrong = Vec::new();
    for (command, kind, code, says) in cases {
        let ran = run(folder.path(), command);
        let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap_or_default();
        let is_told = json["error"].as_str().is_some_and(|error| error.contains(says) && !error.starts_with("error"));
        let is_whole = json["schema_version"] == 1 && json["kind"] == kind && json["exit_code"] == code;
        if ran.code != Some(code) || !is_told || !is_whole || !ran.stderr.contains(says) {
            wrong.push(format!("{command}: exit {:?}\n{}\n{}", ran.code, ran.stdout, ran.stderr));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let help = run(folder.path(), "quantize --help --format json");
    assert!(help.code == Some(0) && help.stdout.contains("Usage:"), "{}", help.stdout);
}

#[test]
fn a_library_that_is_not_there_is_told_of_by_doctor_and_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let ran = run(folder.path(), "doctor --ort-lib nowhere.so");
    assert_eq!(ran.code, Some(5), "{}{}", ran.stdout, ran.stderr);
    let says = ["error: ", "nowhere.so", "no such file", "libonnxruntime"];
    assert!(says.iter().all(|text| ran.stderr.contains(text)), "{}", ran.stderr);
    assert!(ran.stdout.contains("nowhere.so"), "{}", ran.stdout);
}
