//! The verdict that ends `quantize` and `verify`: what it rests on, what it does to exit codes, what reports hold.

use serde_json::Value;

use crate::support::nets::sound;
use crate::support::program::run;

const DIGITS: &str = "{fixtures}/digits_resnet8.onnx --seed 0 -o q.onnx";
const LABELLED: &str = "--eval {fixtures}/digits_test.npz --mean 0.3 --std 0.34";
const RUINED: &str = "--bits 2 --all-layers --recipe nearest";

/// What ends a run.
struct Case {
    name: &'static str,
    arguments: String,
    code: i32,
    verdict: &'static str,
    source: &'static str,
}

fn quantized(name: &'static str, flags: &str, code: i32, verdict: &'static str, source: &'static str) -> Case {
    Case { name, arguments: format!("quantize {DIGITS} {flags}"), code, verdict, source }
}

#[test]
fn the_verdict_follows_from_the_best_evidence_there_is_and_decides_the_exit_code() {
    let cases = [
        quantized("8 bits", "", 0, "good", "synthetic"),
        quantized("8 bits with labels", LABELLED, 0, "good", "labels"),
        quantized("ruined", RUINED, 4, "broken", "synthetic"),
        quantized("ruined, by labels", &format!("{RUINED} {LABELLED}"), 4, "broken", "labels"),
        quantized("ruined and accepted", &format!("{RUINED} --accept broken"), 0, "broken", "synthetic"),
        quantized("per tensor", "--per-tensor", 0, "good", "synthetic"),
        quantized("affine weights", "--affine", 0, "good", "synthetic"),
    ];
    let folder = tempfile::tempdir().unwrap();
    let mut failed = Vec::new();
    for Case { name, arguments, code, verdict, source } in cases {
        let ran = run(folder.path(), &arguments);
        let report: Value =
            serde_json::from_slice(&std::fs::read(folder.path().join("q.report.json")).unwrap()).unwrap();
        let found = (ran.code, report["verdict"].as_str(), report["verdict_source"].as_str());
        let is_written = folder.path().join("q.onnx").exists();
        let is_told = ran.stdout.contains(&format!("verdict    {verdict}")) && ran.stdout.contains("next       ");
        let says_missed = ran.stderr.contains("missed: the verdict is broken");
        if found != (Some(code), Some(verdict), Some(source)) || !is_written || !is_told || says_missed != (code == 4) {
            failed.push(format!("{name}: {found:?}, written {is_written}, told {is_told}\n{}", ran.stderr));
        }
        let _ = std::fs::remove_file(folder.path().join("q.onnx"));
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn verify_judges_as_quantize_does_and_takes_what_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(run(folder.path(), &format!("quantize {DIGITS}")).code, Some(0));
    assert_eq!(
        run(folder.path(), &format!("quantize {DIGITS} -o ruined.onnx {RUINED}").replacen("-o q.onnx ", "", 1)).code,
        Some(4)
    );
    let pair = |quantized: &str, flags: &str| {
        format!("verify {{fixtures}}/digits_resnet8.onnx {quantized} {flags} --format json")
    };
    let cases = [
        ("good", pair("q.onnx", ""), 0, "good", "synthetic"),
        ("good is asked for", pair("q.onnx", "--accept good"), 0, "good", "synthetic"),
        ("on data", pair("q.onnx", "--data {fixtures}/digits_test.npz --mean 0.3 --std 0.34"), 0, "good", "data"),
        ("ruined", pair("ruined.onnx", ""), 4, "broken", "synthetic"),
        ("ruined and accepted", pair("ruined.onnx", "--accept broken"), 0, "broken", "synthetic"),
    ];
    let mut failed = Vec::new();
    for (name, arguments, code, verdict, source) in cases {
        let ran = run(folder.path(), &arguments);
        let report = ran.json();
        let found = (ran.code, report["verdict"].as_str(), report["verdict_source"].as_str());
        if found != (Some(code), Some(verdict), Some(source)) {
            failed.push(format!("{name}: {found:?}\n{}", ran.stderr));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn where_nothing_is_known_of_the_input_the_verdict_is_doubtful_and_says_what_would_make_it_sure() {
    let folder = tempfile::tempdir().unwrap();
    sound(folder.path());
    for (flags, code) in [("", 0), ("--accept good", 4)] {
        let ran = run(folder.path(), &format!("quantize model.onnx -o q.onnx {flags}"));
        assert_eq!(ran.code, Some(code), "{flags}: {}", ran.stderr);
        assert!(ran.stdout.contains("verdict    doubtful"), "{}", ran.stdout);
        assert!(ran.stdout.contains("--data FILE") && ran.stdout.contains("--input-range"), "{}", ran.stdout);
    }
    let known = run(folder.path(), "quantize model.onnx -o q.onnx --input-range -2:2");
    assert!(!known.stdout.contains("a guess") && known.stdout.contains("verdict    "), "{}", known.stdout);
}
