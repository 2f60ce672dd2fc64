//! What people read: reports, help and the readme.

use std::collections::BTreeSet;
use std::path::Path;

use crate::support::fixture;
use crate::support::program::run;

const COMMANDS: [&str; 10] =
    ["quantize", "synth", "sensitivity", "verify", "audit", "inspect", "lint", "eval", "bench", "doctor"];
/// Columns of a terminal that reports are made for.
const WIDTH: usize = 100;

#[test]
fn reports_fit_their_columns_whatever_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(fixture("digits_resnet8.onnx"), folder.path().join("m.onnx")).unwrap();
    let commands = [
        "quantize m.onnx --samples 8 --bits 4 -o q.onnx",
        "quantize m.onnx --samples 8 --target ort-cpu --sensitivity -o r.onnx",
        "quantize m.onnx --samples 8 --auto-bits 4 --activation-bits 8 --target tensorrt -o t.onnx",
        "verify m.onnx q.onnx --samples 8",
        "sensitivity m.onnx --samples 8 --bits 4",
        "inspect m.onnx",
    ];
    let mut wide = Vec::new();
    for command in commands {
        let ran = run(folder.path(), command);
        assert_eq!(ran.code, Some(0), "{command}: {}{}", ran.stdout, ran.stderr);
        // What is there to be copied into a command line is not broken.
        let lines = ran.stdout.lines().filter(|line| !line.contains("--layer-bits /"));
        wide.extend(lines.filter(|line| line.chars().count() > WIDTH).map(|line| format!("{command}: {line}")));
    }
    assert!(wide.is_empty(), "{wide:#?}");
}

#[test]
fn layers_that_are_float_for_speed_or_by_choice_say_so_and_are_no_warning() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(fixture("digits_resnet8.onnx"), folder.path().join("m.onnx")).unwrap();
    let flags = "--target ort-cpu --exclude /fc/Gemm --samples 4 --format json";
    let json = run(folder.path(), &format!("quantize m.onnx {flags}")).json();
    let layers = json["plan"]["float"].as_array().unwrap().iter().filter(|float| float["cause"] != "reader");
    let found: Vec<String> = layers.map(|float| format!("{} {}", float["name"], float["cause"])).collect();
    assert_eq!(found, ["\"/conv1/Conv\" \"speed\"", "\"/fc/Gemm\" \"choice\""]);
    let kinds: Vec<&str> = json["warnings"].as_array().unwrap().iter().map(|w| w["kind"].as_str().unwrap()).collect();
    assert!(!kinds.contains(&"layers_stay_float"), "{kinds:?}");
    let checks = json["verification"]["checks"].as_array().unwrap();
    assert!(checks.iter().any(|check| check["name"] == "lint" && check["passed"] == true), "{checks:?}");
}

/// Returns the long flags in a text.
fn flags(text: &str) -> BTreeSet<String> {
    let flag = regex::Regex::new(r"(?:^|[\s`(\[])(--[a-z][a-z-]*)").unwrap();
    flag.captures_iter(text).map(|found| found[1].to_owned()).collect()
}

#[test]
fn the_readme_has_every_flag_and_no_other() {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let lines: Vec<&str> = readme.lines().filter(|line| !line.contains("cargo ")).collect();
    let described = flags(&lines.join("\n"));
    let folder = tempfile::tempdir().unwrap();
    let help = COMMANDS.map(|command| run(folder.path(), &format!("{command} --help")).stdout);
    let mut known = flags(&help.join("\n"));
    let unknown: Vec<_> = described.difference(&known).collect();
    assert!(unknown.is_empty(), "in no command: {unknown:?}");
    // What is there for other quantizers' users, or says what is the default, need not be told.
    for flag in ["--help", "--verbose", "--per-channel", "--symmetric", "--asymmetric", "--output"] {
        known.remove(flag);
    }
    known.retain(|flag| !flag.contains("to-exclude"));
    let missing: Vec<_> = known.difference(&described).collect();
    assert!(missing.is_empty(), "not in the readme: {missing:?}");
}
