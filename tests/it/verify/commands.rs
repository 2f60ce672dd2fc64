//! What the program says of runtimes and thresholds: which one checked, which one has no say, what was missed by how much.

use dfq_onnx::onnx;
use serde_json::Value;

use super::voters::{lacking_an_operator, networks};
use crate::support::program::run;
use crate::support::qdq::U8;

const QUANTIZE: &str = "quantize {fixtures}/digits_mobilenet.onnx --samples 4 --threads 1 -o out.onnx --format json";

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[test]
fn checks_run_in_the_engine_that_was_asked_for() {
    let mut wrong = Vec::new();
    for (engine, runtimes, note, warning) in [
        ("auto", &["ONNX Runtime", "tract"][..], "", ""),
        ("ort", &["ONNX Runtime"], "only ONNX Runtime", ""),
        ("tract", &["tract"], "only tract", "single_runtime"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let ran = run(folder.path(), &format!("{QUANTIZE} --engine {engine}"));
        let report = ran.json();
        let checked = &report["verification"];
        let engines = strings(&checked["engines"]);
        let known = engines.iter().all(|e| runtimes.iter().any(|r| e.starts_with(r)));
        let all = runtimes.iter().all(|r| engines.iter().any(|e| e.starts_with(r)));
        let noted = note.is_empty() || strings(&checked["notes"]).iter().any(|n| n.starts_with(note));
        let warned = report["warnings"].as_array().unwrap().iter().any(|w| w["kind"] == "single_runtime");
        let second = checked["second_runtime"] == (runtimes.len() == 2);
        if ran.code != Some(0) || !known || !all || !noted || !second || warned == warning.is_empty() {
            wrong.push(format!("{engine}: {:?} {engines:?} {:?} {}", ran.code, checked["notes"], report["warnings"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_runtime_without_a_say_is_named_before_and_behind_the_checks() {
    let folder = tempfile::tempdir().unwrap();
    for (graph, name) in networks(lacking_an_operator, U8).iter().zip(["float.onnx", "low.onnx"]) {
        onnx::save(graph, &folder.path().join(name), onnx::INLINE_LIMIT).unwrap();
    }
    let inspected = run(folder.path(), "inspect float.onnx");
    assert_eq!(inspected.code, Some(0), "{}", inspected.stderr);
    let words = inspected.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("takes no part in the checks") && words.contains("MaxUnpool"), "{words}");
    let verified = run(folder.path(), "verify float.onnx low.onnx --samples 4 --format json");
    let found = verified.json();
    assert_eq!(verified.code, Some(0), "{} {found}", verified.stderr);
    assert!(found["left_out"][0]["reason"].as_str().unwrap().contains("MaxUnpool"), "{found}");
    assert!(!verified.stderr.contains("panicked"), "{}", verified.stderr);
}

#[test]
fn a_missed_threshold_says_what_was_reached() {
    let folder = tempfile::tempdir().unwrap();
    let quantized = run(folder.path(), &format!("{QUANTIZE} --min-sqnr 120"));
    let gate = &quantized.json()["verification"]["gates"][0];
    assert_eq!(quantized.code, Some(4), "{}", quantized.stderr);
    let message = gate["message"].as_str().unwrap();
    assert!(message.contains("dB of at least 120.0 dB"), "{gate}");
    assert!(quantized.stderr.contains(message), "{}", quantized.stderr);
    assert!(gate["measured"].is_f64() && gate["limit"] == 120.0, "{gate}");
}
