//! Statistics beside a model whose exporter folded its normalisations away.

use std::io::Write;
use std::path::Path;

use dfq_onnx::{onnx, passes};
use ndarray_npy::WriteNpyExt;
use serde_json::{Value, json};
use zip::write::SimpleFileOptions;

use crate::support::program::{Ran, run};
use crate::support::{fixture, models, ort};

const BITS: &str = "--bits 4 --dry-run --format json";

/// Statistics go through f32 once more where they come from a file, and the search for a range magnifies that.
const ROUNDING: f64 = 1e-3;

fn dry_run(folder: &Path, arguments: &str) -> Value {
    let ran = run(folder, &format!("quantize {arguments} {BITS}"));
    assert_eq!(ran.code, Some(0), "{arguments}: {}", ran.stderr);
    ran.json()
}

/// Says where two reports have other ranges, in the order of the graph.
fn compare_ranges(found: &Value, expected: &Value) -> Vec<String> {
    let list = |report: &Value| report["ranges"].as_array().unwrap().clone();
    let (found, expected) = (list(found), list(expected));
    assert_eq!(found.len(), expected.len());
    let differs = |f: &Value, e: &Value| {
        let [f_lo, f_hi, e_lo, e_hi] = [&f["lo"], &f["hi"], &e["lo"], &e["hi"]].map(|v| v.as_f64().unwrap());
        let far = |a: f64, b: f64| (a - b).abs() > ROUNDING * (e_hi - e_lo);
        f["source"] != e["source"] || f["bits"] != e["bits"] || far(f_lo, e_lo) || far(f_hi, e_hi)
    };
    found.iter().zip(&expected).filter(|(f, e)| differs(f, e)).map(|(f, e)| format!("{f} and {e}")).collect()
}

/// Writes the fixture as `folded.onnx`, without its normalisations, and what they held as `stats.json`.
pub(crate) fn folded_twin(folder: &Path) {
    let path = fixture("digits_resnet8.onnx");
    let mut graph = onnx::load(&path).unwrap();
    passes::normalise(&mut graph, ort()).unwrap();
    passes::fold(&mut graph).unwrap();
    onnx::save(&graph, &folder.join("folded.onnx"), usize::MAX).unwrap();
    let ran = run(folder, &format!("inspect {} --bn-stats-out stats.json", path.display()));
    assert_eq!((ran.code, ran.left.len()), (Some(0), 1), "{}", ran.stderr);
}

fn stats(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join("stats.json")).unwrap()).unwrap()
}

fn write_npz(path: &Path, statistics: &Value) {
    let mut writer = zip::ZipWriter::new(std::fs::File::create(path).unwrap());
    for (name, entry) in statistics.as_object().unwrap() {
        for part in ["mean", "var"] {
            let values: Vec<f32> = serde_json::from_value(entry[part].clone()).unwrap();
            let mut bytes = Vec::new();
            ndarray::Array1::from(values).write_npy(&mut bytes).unwrap();
            writer.start_file(format!("{name}.{part}.npy"), SimpleFileOptions::default()).unwrap();
            writer.write_all(&bytes).unwrap();
        }
    }
    writer.finish().unwrap();
}

#[test]
fn a_folded_model_with_its_statistics_has_the_ranges_of_the_original() {
    let folder = tempfile::tempdir().unwrap();
    folded_twin(folder.path());
    write_npz(&folder.path().join("stats.npz"), &stats(folder.path()));
    let expected = dry_run(folder.path(), "{fixtures}/digits_resnet8.onnx");
    let mut failed = Vec::new();
    for file in ["stats.json", "stats.npz"] {
        let found = dry_run(folder.path(), &format!("folded.onnx --bn-stats {file}"));
        failed.extend(compare_ranges(&found, &expected));
        if (&found["batch_norms"], &found["statistics_given"]) != (&json!(0), &expected["batch_norms"]) {
            failed.push(format!("{file}: {} and {}", found["batch_norms"], found["statistics_given"]));
        }
        let same_input = ["lo", "hi", "scale", "source"].iter().all(|k| found["input"][k] == expected["input"][k]);
        if !same_input || found["warnings"] != expected["warnings"] {
            failed.push(format!("{file}: {} {}", found["input"], found["warnings"]));
        }
    }
    let without = dry_run(folder.path(), "folded.onnx");
    assert!(!compare_ranges(&without, &expected).is_empty(), "the statistics are what makes them equal");
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn the_twin_that_an_exporter_folded_takes_the_statistics_of_the_original() {
    let path = |name: &str| models().into_iter().find(|p| p.ends_with(name));
    let (Some(original), Some(folded)) = (path("resnet20_cifar10.onnx"), path("resnet20_cifar10_folded.onnx")) else {
        return eprintln!("skipped: no pair of models");
    };
    let folder = tempfile::tempdir().unwrap();
    let (original, folded) = (original.display(), folded.display());
    let ran = run(folder.path(), &format!("inspect {original} --bn-stats-out stats.json"));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let expected = dry_run(folder.path(), &original.to_string());
    let found = dry_run(folder.path(), &format!("{folded} --bn-stats stats.json"));
    assert_eq!(compare_ranges(&found, &expected), Vec::<String>::new());
}

#[test]
fn statistics_in_a_file_win_over_those_in_the_model() {
    let folder = tempfile::tempdir().unwrap();
    folded_twin(folder.path());
    let mut wide = stats(folder.path());
    let (name, entry) = wide.as_object_mut().unwrap().iter_mut().next().unwrap();
    let variances = entry["var"].as_array().unwrap().iter().map(|v| 1e4 * v.as_f64().unwrap());
    let one = json!({ name.as_str(): { "mean": entry["mean"], "variance": variances.collect::<Vec<f64>>() } });
    std::fs::write(folder.path().join("wide.json"), one.to_string()).unwrap();
    let before = dry_run(folder.path(), "{fixtures}/digits_resnet8.onnx");
    let after = dry_run(folder.path(), "{fixtures}/digits_resnet8.onnx --bn-stats wide.json");
    assert!(!compare_ranges(&after, &before).is_empty());
    assert_eq!((&after["batch_norms"], &after["statistics_given"]), (&before["batch_norms"], &json!(1)));
}

#[test]
fn statistics_that_do_not_fit_are_refused_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    folded_twin(folder.path());
    let one = |name: &str, mean: &[f64], var: &[f64]| json!({ name: { "mean": mean, "var": var } }).to_string();
    let conv = "/conv1/Conv";
    let cases = [
        ("an unknown name", one("/conv1/Conb", &[0.0], &[1.0]), &["\"/conv1/Conb\"", "nearest: \"/conv1/Conv\""][..]),
        ("too few channels", one(conv, &[0.0; 3], &[1.0; 3]), &["3 channels", "has 16"]),
        ("unequal channels", one(conv, &[0.0; 16], &[1.0; 15]), &["16 means and 15 variances"]),
        ("a negative variance", one(conv, &[0.0; 2], &[1.0, -0.5]), &["variance of channel 1 is -0.5", "0 or more"]),
        ("not a number", "{\"a\": {\"mean\": [NaN], \"var\": [1]}}".to_owned(), &["JSON", "line 1"]),
        ("beyond float32", one(conv, &[1e300], &[1.0]), &["mean of channel 0 is inf", "finite"]),
        ("another field", "{\"a\": {\"mean\": [1], \"std\": [1]}}".to_owned(), &["`std`", "`mean`"]),
        ("nothing", "{}".to_owned(), &["holds no statistics"]),
        ("no JSON", "mean,var".to_owned(), &["expected an .npz file or JSON"]),
    ];
    let mut failed = Vec::new();
    for (name, contents, says) in cases {
        std::fs::write(folder.path().join("bad.json"), contents).unwrap();
        for command in ["quantize folded.onnx -o out.onnx", "inspect folded.onnx"] {
            let Ran { code, stdout, stderr, left } = run(folder.path(), &format!("{command} --bn-stats bad.json"));
            let told = says.iter().all(|word| stderr.contains(word)) && stderr.contains("bad.json");
            if code != Some(3) || !told || !left.is_empty() || !stdout.is_empty() {
                failed.push(format!("{name}: {command}: exit {code:?}, left {left:?}: {stderr}"));
            }
        }
    }
    let absent = run(folder.path(), "quantize folded.onnx --bn-stats absent.json");
    assert_eq!((absent.code, absent.left.len()), (Some(3), 0), "{}", absent.stderr);
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn arrays_without_their_other_half_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    folded_twin(folder.path());
    let mut writer = zip::ZipWriter::new(std::fs::File::create(folder.path().join("half.npz")).unwrap());
    let mut bytes = Vec::new();
    ndarray::arr1(&[0f32; 16]).write_npy(&mut bytes).unwrap();
    writer.start_file("/conv1/Conv.mean.npy", SimpleFileOptions::default()).unwrap();
    writer.write_all(&bytes).unwrap();
    writer.finish().unwrap();
    let ran = run(folder.path(), "quantize folded.onnx -o out.onnx --bn-stats half.npz");
    assert!(ran.stderr.contains("array \"/conv1/Conv.var\" is missing"), "{}", ran.stderr);
    assert_eq!((ran.code, ran.left.len()), (Some(3), 0));
}

#[test]
fn statistics_are_written_only_where_there_are_some() {
    let folder = tempfile::tempdir().unwrap();
    folded_twin(folder.path());
    let ran = run(folder.path(), "inspect folded.onnx --bn-stats-out out.json");
    assert!(ran.stderr.contains("has no statistics to write"), "{}", ran.stderr);
    assert_eq!((ran.code, ran.left.len()), (Some(3), 0));
    let ran = run(folder.path(), "inspect folded.onnx --bn-stats stats.json --bn-stats-out out.json");
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let written: Value = serde_json::from_slice(&std::fs::read(folder.path().join("out.json")).unwrap()).unwrap();
    assert_eq!(written.as_object().unwrap().len(), stats(folder.path()).as_object().unwrap().len());
}
