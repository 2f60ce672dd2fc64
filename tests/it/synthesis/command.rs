//! `synth` as a program: what it writes, that nothing but the seed decides it, and that it can be stopped at any time.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dfq_onnx::data::{find_array, read_arrays};
use serde_json::Value;

use crate::bn_stats::folded_twin;
use crate::support::program::{Ran, files, interrupted, run};
use crate::training::cascade::each_is_judged;

const SYNTH: &str = "synth {fixtures}/digits_resnet8.onnx -o out.npz -n 20 --batch 16";

fn synth(folder: &Path, flags: &str) -> Ran {
    let ran = run(folder, &format!("{SYNTH} {flags}"));
    assert_eq!(ran.code, Some(0), "{flags}: {}\n{}", ran.stderr, ran.stdout);
    ran
}

fn bytes(flags: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    synth(folder.path(), flags);
    std::fs::read(folder.path().join("out.npz")).unwrap()
}

fn losses(report: &Value, generator: usize, term: &str) -> Vec<f64> {
    let all = report["synthesis"]["generators"][generator]["losses"].as_array().unwrap();
    let found = all.iter().find(|pair| pair[0] == term).unwrap();
    found[1].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

#[test]
fn images_come_close_to_the_statistics_and_lie_beside_a_sheet_curves_and_a_report() {
    let folder = tempfile::tempdir().unwrap();
    let report = synth(folder.path(), "--steps 60 --loss tv=0.01 --format json").json();
    let written = ["out.npz", "out.png", "out.report.json", "out.svg"].map(PathBuf::from);
    assert_eq!(files(folder.path()), written);
    let arrays = read_arrays(&folder.path().join("out.npz")).unwrap();
    let images = find_array(Path::new("out.npz"), &arrays, &["input"]).unwrap();
    assert_eq!(images.shape(), [20, 1, 32, 32]);
    let classes = find_array(Path::new("out.npz"), &arrays, &["teacher_classes"]).unwrap().to_i64().unwrap();
    assert!(classes.len() == 20 && classes.iter().all(|class| (0..10).contains(class)), "{classes:?}");
    for generator in 0..2 {
        let of = |term| losses(&report, generator, term);
        let (first, last) = (of("bn")[0], of("bn")[59]);
        assert!(of("loss").len() == 60 && last < 0.2 * first, "generator {generator}: {first} to {last}");
        let (classes, variation) = (0.3 * of("one-hot")[7], 0.01 * of("tv")[7]);
        assert!((of("loss")[7] - of("bn")[7] - classes - variation).abs() < 1e-4 * of("loss")[7]);
        assert!(of("one-hot")[59] < 0.2 * of("one-hot")[0], "{:?}", of("one-hot"));
    }
    let answers = &report["synthesis"]["answers"];
    let histogram: Vec<u64> = answers["histogram"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
    assert_eq!(histogram.iter().sum::<u64>(), 20);
    assert!(histogram.iter().all(|&count| count <= 5), "all classes are chosen as often: {histogram:?}");
    assert!((0.5..=1.0).contains(&answers["confidence"].as_f64().unwrap()), "{answers}");
    let written = std::fs::read(folder.path().join("out.report.json")).unwrap();
    let written: Value = serde_json::from_slice(&written).unwrap();
    assert_eq!((&written["synthesis"], &written["sheet"]), (&report["synthesis"], &report["sheet"]));
    assert!(std::fs::read(folder.path().join("out.png")).unwrap().starts_with(b"\x89PNG"));
    assert!(std::fs::read_to_string(folder.path().join("out.svg")).unwrap().contains("bn, generator 2"));
    // What was made is an array of images for the other commands.
    let model = "{fixtures}/digits_resnet8.onnx";
    let made = run(folder.path(), &format!("quantize {model} -o q.onnx --samples 8"));
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let ran = run(folder.path(), &format!("verify {model} q.onnx --data out.npz"));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}

#[test]
fn the_seed_alone_decides_the_bytes() {
    let first = bytes("--steps 20");
    assert!(first == bytes("--steps 20 --threads 1"), "two runs of one seed differ");
    for other in [
        "--steps 20 --seed 1",
        "--steps 21",
        "--steps 20 --no-swing --no-augment",
        "--steps 20 --low-pass 0.7",
        "--steps 20 --unconditional",
    ] {
        assert!(first != bytes(other), "{other} changes nothing");
    }
}

#[test]
fn a_run_that_is_stopped_anywhere_goes_on_to_the_same_bytes() {
    let flags = "--steps 60";
    let whole = bytes(flags);
    let folder = tempfile::tempdir().unwrap();
    // Stopped in the first generator, then in the second.
    for (number, stopped) in ["synthesis-0", "synthesis-1"].into_iter().enumerate() {
        let checkpoint = folder.path().join(format!("run/{stopped}.safetensors"));
        let folder_flag = if number == 0 { "--run-folder run" } else { "--resume run" };
        let arguments = format!("{SYNTH} {flags} {folder_flag}");
        let ended = interrupted(folder.path(), &arguments, || checkpoint.exists());
        let told = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(130), "{told}");
        assert!(told.contains("--resume run"), "{told}");
        assert_eq!(files(folder.path()).iter().filter(|name| !name.starts_with("run")).count(), 0);
    }
    let refused = run(folder.path(), &format!("{SYNTH} {flags} --resume run --seed 1"));
    assert!(refused.code == Some(2) && refused.stderr.contains("its seed is 0, expected 1"), "{}", refused.stderr);
    let report = synth(folder.path(), &format!("{flags} --resume run --format json")).json();
    let resumed: Vec<u64> =
        (0..2).map(|i| report["synthesis"]["generators"][i]["resumed_at"].as_u64().unwrap()).collect();
    assert!(resumed[0] == 60 && (20..=60).contains(&resumed[1]), "{resumed:?}");
    assert!(std::fs::read(folder.path().join("out.npz")).unwrap() == whole, "other bytes");
}

#[test]
fn without_a_run_folder_a_stopped_run_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let is_late = || started.elapsed() >= Duration::from_secs(2);
    let ended = interrupted(folder.path(), &format!("{SYNTH} --steps 100000"), is_late);
    assert_eq!(ended.status.code(), Some(130), "{}", String::from_utf8_lossy(&ended.stderr));
    assert_eq!(files(folder.path()), Vec::<PathBuf>::new());
}

#[test]
fn a_time_budget_ends_a_generator_early_and_the_report_tells_its_steps() {
    let folder = tempfile::tempdir().unwrap();
    let report = synth(folder.path(), "--steps 100000 --max-minutes 0.15 --format json").json();
    let steps = report["synthesis"]["generators"][0]["steps"].as_u64().unwrap();
    assert!((1..100_000).contains(&steps), "{steps}");
    let none = synth(folder.path(), "--steps 100 --max-minutes 0 --format json").json();
    assert_eq!(none["synthesis"]["generators"][0]["steps"], 0);
}

#[test]
fn a_network_without_statistics_is_told_of_and_made_images_by_its_classes() {
    let folder = tempfile::tempdir().unwrap();
    folded_twin(folder.path());
    let ran = run(folder.path(), "synth folded.onnx -o out.npz -n 16 --batch 16 --steps 60 --format json");
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let report = ran.json();
    assert_eq!(
        (&report["synthesis"]["layers"], &report["warnings"][0]["kind"]),
        (&0.into(), &"input_assumed".into()),
        "{report}"
    );
    assert!(report["warnings"].as_array().unwrap().iter().any(|w| w["kind"] == "images_without_statistics"));
    let (first, last) = (losses(&report, 0, "loss")[0], losses(&report, 0, "loss")[59]);
    assert!(last < first, "{first} to {last}");
    let evenness = losses(&report, 0, "batch-entropy");
    assert!(evenness[59] < 0.5 * evenness[0], "{evenness:?}");
}

#[test]
fn a_dry_run_tells_what_a_step_takes_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let ran = synth(folder.path(), "--dry-run --run-folder run");
    assert_eq!(files(folder.path()), Vec::<PathBuf>::new());
    let told = ran.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(told.contains("(nothing written)") && told.contains("20 by generators of 16 each"), "{told}");
}

#[test]
fn the_cascade_goes_by_images_and_is_kept_only_where_it_does_better_on_others() {
    let folder = tempfile::tempdir().unwrap();
    let flags = "quantize {fixtures}/digits_mobilenet.onnx --bits 4 --recipe cascade --samples 8 --steps 2 --batch 8 --format json";
    let planned = run(folder.path(), &format!("{flags} --dry-run")).json();
    assert_eq!(planned["synthesis"]["options"]["images"], 256);
    let ran = run(folder.path(), &format!("{flags} --images 32 -o out.onnx"));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let report = ran.json();
    let ranges = report["ranges"].as_array().unwrap();
    // What is no nearer to the float network than ranges without images gives way to those.
    let is_kept = report["against_start"]["is_kept"] == true;
    let sources =
        if is_kept { ["trained", "synthetic_inputs", "input"] } else { ["statistics", "statistics", "input"] };
    assert!(
        ranges.iter().all(|range| sources.iter().any(|source| range["source"] == *source)),
        "{is_kept}: {ranges:?}"
    );
    assert_eq!(report["warnings"].to_string().contains("start_kept"), !is_kept, "{}", report["warnings"]);
    let stages = report["training"].as_array().unwrap();
    let names: Vec<&str> = stages.iter().map(|stage| stage["stage"].as_str().unwrap()).collect();
    assert_eq!(names, ["reconstruct", "distil"]);
    each_is_judged(stages);
    // Four variations of 4 images and of twice as many dead leaves.
    assert!(stages.iter().all(|stage| stage["held_out"]["images"] == 48), "{stages:?}");
}
