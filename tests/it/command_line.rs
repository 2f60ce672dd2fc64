//! The manners of the command line: where results go, what files are called, what exit codes mean.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use dfq_onnx::ir::Tensor;
use dfq_onnx::onnx;
use serde_json::Value;

use crate::support::fixture;
use crate::support::nets::sound;
use crate::support::program::{Ran, program, run};

const DIGITS: &str = "{fixtures}/digits_resnet8.onnx";
const IMAGES: &str = "{fixtures}/digits_test.npz --mean 0.3 --std 0.34";

/// Returns an empty folder with the digits model in it as `model.onnx`.
fn with_model() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(fixture("digits_resnet8.onnx"), folder.path().join("model.onnx")).unwrap();
    folder
}

fn ran_in(folder: &Path, arguments: &str, code: i32) -> Ran {
    let ran = run(folder, arguments);
    assert_eq!(ran.code, Some(code), "{arguments}: {}\n{}", ran.stderr, ran.stdout);
    assert!(!ran.stderr.contains("panicked"), "{arguments}: {}", ran.stderr);
    ran
}

fn paths(names: &[&str]) -> Vec<PathBuf> {
    names.iter().map(PathBuf::from).collect()
}

#[test]
fn outputs_are_named_after_model_and_bits_and_lie_beside_the_model() {
    let folder = tempfile::tempdir().unwrap();
    sound(folder.path());
    std::fs::create_dir(folder.path().join("sub")).unwrap();
    std::fs::rename(folder.path().join("model.onnx"), folder.path().join("sub/my.model.onnx")).unwrap();
    let cases = [
        ("", &["sub/my.model.w8a8.onnx", "sub/my.model.w8a8.report.json"][..]),
        ("--precision w4a8", &["sub/my.model.w4a8.onnx", "sub/my.model.w4a8.report.json"]),
        ("-o out.onnx", &["out.onnx", "out.report.json"]),
        ("-o out2.onnx --report seen.json", &["out2.onnx", "seen.json"]),
    ];
    for (flags, expected) in cases {
        let ran = ran_in(folder.path(), &format!("quantize sub/my.model.onnx {flags}"), 0);
        assert_eq!(ran.left, paths(expected), "{flags}");
        assert!(ran.stdout.contains(expected[0]), "{}", ran.stdout);
    }
}

#[test]
fn underscores_and_dashes_in_flags_are_one() {
    let folder = with_model();
    let reports: Vec<Value> =
        ["--per-tensor --exclude-op=Gemm --input-range -2:2", "--per_tensor --exclude_op=Gemm --input_range -2:2"]
            .map(|flags| {
                ran_in(folder.path(), &format!("quantize model.onnx --format json --dry-run {flags}"), 0).json()
            })
            .to_vec();
    assert_eq!(reports[0]["plan"], reports[1]["plan"]);
    assert_eq!(reports[0]["input"]["lo"], -2.0);
    assert_eq!(reports[0]["plan"]["weights"][0]["scheme"]["axis"], Value::Null, "one scale per weight");
    let names = "quantize model.onnx --dry-run --format=json --exclude=no_such_node";
    assert!(ran_in(folder.path(), names, 2).stderr.contains("\"no_such_node\""), "values keep their underscores");
}

#[test]
fn every_command_prints_one_json_document_with_a_schema_version_and_nothing_else() {
    let folder = with_model();
    ran_in(folder.path(), "quantize model.onnx -o q.onnx --samples 4", 0);
    let commands = [
        "quantize model.onnx --bits 4 --format json --samples 4".to_owned(),
        "quantize model.onnx --dry-run --format json".to_owned(),
        "inspect model.onnx --format json".to_owned(),
        "verify model.onnx q.onnx --format json".to_owned(),
        format!("eval q.onnx {IMAGES} --format json"),
        "doctor --format json".to_owned(),
    ];
    let mut wrong = Vec::new();
    for command in &commands {
        let ran = ran_in(folder.path(), &format!("{command} -v"), 0);
        match serde_json::from_str::<Value>(&ran.stdout) {
            Ok(json) if json["schema_version"] == 1 => {}
            Ok(json) => wrong.push(format!("{command}: schema_version {}", json["schema_version"])),
            Err(error) => wrong.push(format!("{command}: {error}: {}", ran.stdout)),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let ran = ran_in(folder.path(), "quantize model.onnx --format json -v --samples 4", 0);
    assert!(ran.stderr.contains("INFO") && ran.stderr.contains("verify"), "stages are logged: {}", ran.stderr);
    let report = std::fs::read_to_string(folder.path().join("model.w8a8.report.json")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&report).unwrap(), ran.json(), "the report file is what is printed");
}

#[test]
fn a_dry_run_prints_the_plan_and_writes_nothing() {
    let folder = with_model();
    let ran = ran_in(folder.path(), "quantize model.onnx --bits 4 --dry-run", 0);
    assert!(ran.left.is_empty(), "{:?}", ran.left);
    for text in ["/b1/conv1/Conv", "w4a4", "w8a8", "graph outputs stay float", "nothing written"] {
        assert!(ran.stdout.contains(text), "\"{text}\" in {}", ran.stdout);
    }
    let json = ran_in(folder.path(), "quantize model.onnx --bits 4 --dry-run --format json", 0).json();
    assert_eq!(json["output"], Value::Null);
    assert_eq!(json["plan"]["layers"].as_array().unwrap().len(), 10);
    ran_in(folder.path(), "quantize model.onnx -o absent/x.onnx --dry-run", 0);
    // One of eight images is held out, and two dead leaves lie beside each.
    let json =
        ran_in(folder.path(), "quantize model.onnx --recipe cascade --images 48 --dry-run --format json", 0).json();
    let inputs = |stage: &Value| (stage["samples"].as_u64(), stage["leaves"].as_u64());
    let found: Vec<_> = json["training"].as_array().unwrap().iter().map(inputs).collect();
    assert_eq!(found, [(Some(42), Some(84)); 2]);
}

#[test]
fn a_missed_threshold_is_exit_code_4_and_the_file_is_there() {
    let folder = with_model();
    let eval = format!("--bits 2 --all-layers --eval {IMAGES} --max-drop 1");
    let cases = [
        ("--bits 2 --min-agreement 1.0", "top-1 agreement"),
        ("--min-sqnr 200", "SQNR"),
        (eval.as_str(), "accuracy drops by"),
    ];
    for (flags, missed) in cases {
        let ran = ran_in(folder.path(), &format!("quantize model.onnx -o q.onnx {flags}"), 4);
        let told = ran.stderr.lines().filter(|line| line.starts_with("missed: ") && line.contains(missed)).count();
        assert_eq!(told, 1, "{flags}: {}", ran.stderr);
        assert_eq!(ran.left, paths(&["q.onnx", "q.report.json"]), "{flags}");
        std::fs::remove_file(folder.path().join("q.onnx")).unwrap();
        std::fs::remove_file(folder.path().join("q.report.json")).unwrap();
    }
    let kept = format!("quantize model.onnx --eval {IMAGES} --max-drop 5 --min-agreement 0.9 --min-sqnr 5");
    ran_in(folder.path(), &kept, 0);
}

#[test]
fn verify_tells_sound_foreign_and_broken_files_apart() {
    let folder = with_model();
    ran_in(folder.path(), "quantize model.onnx -o q.onnx", 0);
    let sound = ran_in(folder.path(), "verify model.onnx q.onnx --min-sqnr 10 --min-agreement 0.9", 0);
    assert!(sound.stdout.contains("SQNR") && sound.left.is_empty(), "{}", sound.stdout);

    let mut other = onnx::load(&folder.path().join("model.onnx")).unwrap();
    for id in other.value_ids().collect::<Vec<_>>() {
        let Some(tensor) = other.constant_of(id).filter(|t| t.shape().len() == 4).cloned() else { continue };
        let mirrored: Vec<f32> = tensor.to_f32().unwrap().into_iter().rev().collect();
        other.value_mut(id).constant = Some(Tensor::from_f32(tensor.shape(), &mirrored));
    }
    std::fs::write(folder.path().join("other.onnx"), onnx::encode(&other).unwrap()).unwrap();
    let foreign = ran_in(folder.path(), "verify other.onnx q.onnx --min-sqnr 10", 4);
    assert!(foreign.stderr.contains("missed: SQNR against the float model"), "{}", foreign.stderr);

    let mut broken = onnx::load(&folder.path().join("q.onnx")).unwrap();
    broken.nodes.iter_mut().find(|n| n.op_type == "Relu").unwrap().op_type = "Reluu".to_owned();
    std::fs::write(folder.path().join("broken.onnx"), onnx::encode(&broken).unwrap()).unwrap();
    let broken = ran_in(folder.path(), "verify model.onnx broken.onnx --samples 4", 4);
    assert!(broken.stderr.contains("missed: loads and runs") && broken.stderr.contains("Reluu"), "{}", broken.stderr);
}

#[test]
fn inspect_eval_and_doctor_say_what_they_are_for() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        (format!("inspect {DIGITS}"), &["input float32 [N, 1, 32, 32]", "9 BatchNormalization", "/conv1/Conv"][..]),
        (format!("eval {DIGITS} {IMAGES}"), &["100.00 % top-1 (500 of 500 correct"]),
        (format!("eval {DIGITS} {IMAGES} --limit 7 --engine tract"), &["(7 of 7 correct", "tract"]),
        ("doctor".to_owned(), &["ONNX Runtime", "tract", "cache"]),
        ("--version".to_owned(), &[env!("CARGO_PKG_VERSION")]),
        ("quantize --help".to_owned(), &["--min-agreement", "--dry-run"]),
        ("--help".to_owned(), &["Exit codes: 0 ok", "quantize", "verify"]),
    ];
    for (command, says) in cases {
        let ran = ran_in(folder.path(), &command, 0);
        let missing: Vec<_> = says.iter().filter(|text| !ran.stdout.contains(**text)).collect();
        assert!(missing.is_empty() && ran.stderr.is_empty(), "{command}: {missing:?}\n{}{}", ran.stdout, ran.stderr);
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let folder = with_model();
    for bits in ["8", "4"] {
        for out in ["a", "b"] {
            ran_in(folder.path(), &format!("quantize model.onnx --bits {bits} --samples 4 --seed 3 -o {out}.onnx"), 0);
        }
        let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
        assert!(read("a.onnx") == read("b.onnx"), "{bits} bits");
    }
}

#[test]
fn verify_refuses_arguments_that_are_swapped_or_twice_the_same() {
    let folder = with_model();
    ran_in(folder.path(), "quantize model.onnx -o q.onnx --samples 4", 0);
    std::fs::copy(folder.path().join("q.onnx"), folder.path().join("copy.onnx")).unwrap();
    let mobile = "{fixtures}/digits_mobilenet.onnx";
    let cases = [
        ("verify q.onnx model.onnx".to_owned(), 2, "q.onnx is quantized and model.onnx is not"),
        ("verify q.onnx q.onnx".to_owned(), 2, "the same model"),
        ("verify model.onnx ./model.onnx".to_owned(), 2, "the same model"),
        ("verify q.onnx copy.onnx".to_owned(), 2, "the same model"),
        (format!("verify model.onnx {mobile}"), 3, "is not quantized"),
    ];
    for (command, code, says) in cases {
        let ran = ran_in(folder.path(), &command, code);
        assert!(ran.stderr.contains(says), "{command}: {}", ran.stderr);
    }
}

#[test]
fn the_ratio_of_a_benchmark_is_that_of_the_medians_beside_it() {
    let folder = with_model();
    ran_in(folder.path(), "quantize model.onnx -o q.onnx --samples 4", 0);
    let json = ran_in(folder.path(), "bench model.onnx q.onnx --runs 9 --format json", 0).json();
    assert_eq!(json["schema_version"], 1);
    let models = json["models"].as_array().unwrap();
    let of = |model: &Value, field: &str| model[field].as_f64().unwrap();
    for model in models {
        let ratio = of(&models[0], "milliseconds_median") / of(model, "milliseconds_median");
        assert!((of(model, "speedup") - ratio).abs() < 1e-9, "{json:#}");
    }
}

#[test]
fn warnings_are_those_that_apply() {
    let folder = with_model();
    let kinds = |arguments: &str| -> Vec<String> {
        let json = ran_in(folder.path(), &format!("quantize model.onnx --format json {arguments}"), 0).json();
        json["warnings"].as_array().unwrap().iter().map(|w| w["kind"].as_str().unwrap().to_owned()).collect()
    };
    let cases = [
        ("few bits, not trained", "--bits 4 --dry-run", "few_bits", true),
        ("few bits, to be trained", "--bits 4 --dry-run --recipe lsq", "few_bits", false),
        ("one engine, nothing checked", "--dry-run --engine tract", "single_runtime", false),
        ("a runtime that is not run, nothing checked", "--dry-run --target tensorrt", "runtime_not_run", false),
        ("a runtime that is not run", "--samples 4 --target tensorrt -o u.onnx", "runtime_not_run", true),
        ("images that a dry run does not make", "--dry-run --ranges synthetic", "images_cut_short", false),
    ];
    let found = cases.map(|(name, flags, kind, expected)| (name, kinds(flags), kind, expected));
    let wrong: Vec<_> =
        found.iter().filter(|(_, kinds, kind, expected)| kinds.contains(&(*kind).to_owned()) != *expected).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let ran = ran_in(folder.path(), "quantize model.onnx --bits 4 --samples 4 -o v.onnx", 0);
    assert!(!ran.stdout.contains("is no tensor of the float model"), "{}", ran.stdout);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    sound(folder.path());
    for command in ["inspect model.onnx", "quantize model.onnx --format json", "quantize --help"] {
        let mut child = program(folder.path(), command).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert_eq!((child.wait().unwrap().code(), stderr.as_str()), (Some(0), ""), "{command}");
    }
    let mut child = program(folder.path(), "inspect absent.onnx").stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(3), "nobody reads the error");
}

#[test]
fn a_device_that_is_not_there_is_exit_code_5_and_one_that_is_unknown_2() {
    let folder = with_model();
    // No machine has so many.
    for device in ["cuda:99", "tensorrt:99"] {
        let ran = ran_in(folder.path(), &format!("quantize model.onnx --samples 4 --device {device}"), 5);
        assert!(ran.stderr.contains(&format!("error: device {device} cannot be used: ")), "{}", ran.stderr);
        assert_eq!((ran.stdout.as_str(), ran.left), ("", paths(&[])), "{device}");
    }
    for device in ["gpu", "cuda:", "cuda:-1", "cpu:0"] {
        let ran = ran_in(folder.path(), &format!("quantize model.onnx --device {device}"), 2);
        assert!(ran.stderr.contains("cuda:INDEX"), "{}", ran.stderr);
    }
    let ran = ran_in(folder.path(), "quantize model.onnx --engine tract --device cuda", 2);
    assert!(ran.stderr.contains("tract runs on the CPU"), "{}", ran.stderr);
}
