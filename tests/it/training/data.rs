//! `--data`: inputs that the user hands over, for ranges and training, and those that do not fit.

use std::path::Path;

use dfq_onnx::data::npz_bytes;
use dfq_onnx::ir::{DType, Tensor};

use crate::support::net::normal;
use crate::support::program::{files, run};

const MODEL: &str = "quantize {fixtures}/digits_resnet8.onnx --bits 4 --mean 0.5 --std 0.5 --samples 8 -o out.onnx";

fn write(folder: &Path, name: &str, arrays: &[(&str, &Tensor)]) {
    std::fs::write(folder.join(name), npz_bytes(arrays).unwrap()).unwrap();
}

/// Returns a folder with inputs of the digits, as they are fed and as pixels, and some that do not fit.
fn prepared() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let pixels: Vec<u8> = (0..96 * 32 * 32u32).map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    let fed: Vec<f32> = pixels.iter().map(|&p| (f32::from(p) / 255.0 - 0.5) / 0.5).collect();
    let images = Tensor::new(DType::U8, vec![96, 32, 32, 1], pixels.into()).unwrap();
    let fed = Tensor::from_f32(&[96, 1, 32, 32], &fed);
    write(folder.path(), "images.npz", &[("images", &images)]);
    // Of labels that no class has nothing is seen.
    write(folder.path(), "labelled.npz", &[("labels", &Tensor::from_i64(&[96], &[-1; 96])), ("images", &images)]);
    write(folder.path(), "fed.npz", &[("input", &fed)]);
    write(folder.path(), "small.npz", &[("input", &normal(&[96, 1, 16, 16], 0.5, 1))]);
    write(folder.path(), "narrow.npz", &[("images", &normal(&[96, 16, 16, 1], 0.5, 1))]);
    write(folder.path(), "raw.npz", &[("input", &normal(&[96, 1, 32, 32], 100.0, 1))]);
    write(folder.path(), "dim.npz", &[("input", &normal(&[96, 1, 32, 32], 1e-3, 1))]);
    // Around the middle of what the network is fed, with an eighth of its contrast.
    let unit: Vec<f32> = fed.to_f32().unwrap().iter().map(|v| 0.12 * v + 0.5).collect();
    write(folder.path(), "unit.npz", &[("input", &Tensor::from_f32(&[96, 1, 32, 32], &unit))]);
    let broken: Vec<f32> = unit.iter().enumerate().map(|(i, v)| if i == 7 { f32::NAN } else { *v }).collect();
    write(folder.path(), "nan.npz", &[("input", &Tensor::from_f32(&[96, 1, 32, 32], &broken))]);
    write(folder.path(), "one.npz", &[("input", &fed.rows(0..1).unwrap())]);
    write(folder.path(), "bytes.npz", &[("input", &images)]);
    write(folder.path(), "few.npz", &[("input", &fed.rows(0..4).unwrap())]);
    std::fs::write(folder.path().join("text.npz"), "no arrays").unwrap();
    folder
}

#[test]
fn ranges_and_training_go_by_what_was_handed_over_and_the_report_says_so() {
    let folder = prepared();
    let mut files = Vec::new();
    for data in ["images", "fed", "labelled", "bytes"] {
        let flags = format!("{MODEL} --recipe cascade --steps 20 --batch 16 --data {data}.npz --format json");
        let ran = run(folder.path(), &flags);
        assert_eq!(ran.code, Some(0), "{data}: {}", ran.stderr);
        let report = ran.json();
        assert_eq!(report["data"]["samples"], 96, "{data}");
        let stage = &report["training"][0];
        assert_eq!(
            (&report["synthesis"], stage["samples"].as_u64(), stage["leaves"].as_u64()),
            (&serde_json::Value::Null, Some(63), Some(126))
        );
        files.push(std::fs::read(folder.path().join("out.onnx")).unwrap());
    }
    assert!(files[0] == files[2], "labels change the file");
    assert!(files[0] == files[3], "images under the name of the input are others");
    let ran = run(folder.path(), &format!("{MODEL} --data fed.npz --format json"));
    assert_eq!((ran.code, &ran.json()["training"]), (Some(0), &serde_json::Value::Array(Vec::new())));
    let plain = run(folder.path(), &format!("{MODEL} --format json"));
    assert_eq!(plain.json()["data"], serde_json::Value::Null);
    let ranges = |ran: &crate::support::program::Ran| ran.json()["ranges"].clone();
    assert_ne!(ranges(&ran), ranges(&plain), "ranges are those of synthetic inputs");
}

#[test]
fn inputs_that_do_not_fit_are_refused() {
    let folder = prepared();
    let before = files(folder.path());
    let cases: &[(&str, &str, i32, &[&str])] = &[
        ("no file", "--data none.npz", 3, &["none.npz"]),
        ("no arrays", "--data text.npz", 3, &["text.npz", "not an .npz"]),
        ("inputs of another size", "--data small.npz", 3, &["small.npz", "\"input\"", "[96, 1, 16, 16]"]),
        ("images of another size", "--data narrow.npz", 3, &["narrow.npz", "[96, 16, 16, 1]"]),
        ("another scale", "--data raw.npz", 2, &["raw.npz", "expects -1.000 to 1.000", "--scale"]),
        ("an eighth of the contrast", "--data unit.npz", 2, &["unit.npz", "expects -1.000 to 1.000", "--std"]),
        ("no number", "--data nan.npz", 3, &["nan.npz", "NaN"]),
        ("a single one", "--data one.npz", 3, &["one.npz", "at least 2"]),
        ("hardly any contrast", "--data dim.npz", 2, &["dim.npz", "expects -1.000 to 1.000"]),
        ("too few for a step", "--data few.npz --recipe cascade --batch 16", 2, &["3 images are too few", "--batch"]),
        ("ranges of something else", "--data fed.npz --ranges synthetic", 2, &["cannot be used with"]),
        (
            "an unknown stage",
            "--recipe cascade --stages distill",
            2,
            &["\"distill\"", "reconstruct, distil, adversarial"],
        ),
        ("stages without training", "--effort fast --stages distil", 2, &["\"fast\" does not train"]),
        ("players of none", "--recipe gdfq --students 2", 2, &["--students", "--recipe or --stages choi2020"]),
    ];
    let mut failed = Vec::new();
    for (name, flags, code, words) in cases {
        let ran = run(folder.path(), &format!("{MODEL} {flags}"));
        if ran.code != Some(*code) || !words.iter().all(|word| ran.stderr.contains(word)) {
            failed.push(format!("{name}: exit {:?}, expected {code} with {words:?}: {}", ran.code, ran.stderr));
        }
        if files(folder.path()) != before {
            failed.push(format!("{name}: left {:?}", ran.left));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
