//! Runs that are killed while they replace a model with external data: the old pair is there or the new one, and the next
//! run leaves nothing else.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dfq_onnx::digest::sha256_of_file;
use dfq_onnx::onnx;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::started;
use crate::support::program::{files, run};

/// Kills at random moments, and as soon as something is to be seen.
const RANDOM: usize = 6;
const OLD: &str =
    "quantize {fixtures}/digits_resnet8.onnx --external-data -o o.onnx --samples 2 --recipe nearest --per-tensor";
const NEW: &str = "quantize {fixtures}/digits_resnet8.onnx --external-data -o o.onnx --samples 2 --recipe nearest --bits 5 \
                   --container int8 --accept broken";

/// Returns the digests of a model and its data, which is whole and has the name of its contents.
fn pair(folder: &Path) -> [String; 2] {
    let model = folder.join("o.onnx");
    onnx::load(&model).unwrap();
    let read = onnx::files_of(&model).unwrap();
    let [model, data] = read.as_slice() else { panic!("{read:?}") };
    let digests = [model, data].map(|path| sha256_of_file(path).unwrap());
    assert!(data.to_string_lossy().ends_with(&format!("o.onnx.{}.data", &digests[1][..16])), "{}", data.display());
    digests
}

fn whole(folder: &Path, command: &str) -> [String; 2] {
    let ran = run(folder, command);
    assert_eq!(ran.code, Some(0), "{command}: {}", ran.stderr);
    let left: Vec<PathBuf> =
        files(folder).into_iter().filter(|path| !path.to_string_lossy().starts_with("o.")).collect();
    assert!(left.is_empty() && files(folder).len() == 3, "{:?}", files(folder));
    pair(folder)
}

#[test]
fn a_model_with_external_data_is_replaced_whole_or_not_at_all() {
    let made = tempfile::tempdir().unwrap();
    let folder = made.path();
    let begun = Instant::now();
    let new = whole(folder, NEW);
    let span = begun.elapsed();
    let old = whole(folder, OLD);
    assert_ne!(old, new);
    let has = |part: &'static str| move || files(folder).iter().any(|path| path.to_string_lossy().contains(part));
    let new_data = format!("o.onnx.{}.data", &new[1][..16]);
    let mut rng = ChaCha8Rng::seed_from_u64(19);
    let mut moments: Vec<(String, Box<dyn Fn() -> bool>)> = vec![
        ("a draft folder".to_owned(), Box::new(has(".dfq-onnx-"))),
        ("a draft of data".to_owned(), Box::new(has("/o.onnx."))),
        (
            "a draft of the model".to_owned(),
            Box::new(|| {
                files(folder).iter().any(|path| path.ends_with("o.onnx") && path.parent() != Some(Path::new("")))
            }),
        ),
        ("a draft of the report".to_owned(), Box::new(has("/o.report.json"))),
        ("new data in place".to_owned(), Box::new(|| folder.join(&new_data).exists())),
        ("the new model in place".to_owned(), Box::new(|| sha256_of_file(&folder.join("o.onnx")).unwrap() == new[0])),
    ];
    for _ in 0..RANDOM {
        let after = Duration::from_secs_f64(rng.random_range(0.0..1.0) * span.as_secs_f64());
        let since = std::cell::OnceCell::new();
        moments.push((format!("{after:?}"), Box::new(move || since.get_or_init(Instant::now).elapsed() >= after)));
    }
    let mut wrong = Vec::new();
    for (name, moment) in moments {
        let mut child = started(folder, NEW, moment);
        child.kill().unwrap();
        child.wait().unwrap();
        let found = pair(folder);
        if found != old && found != new {
            wrong.push(format!("{name}: neither pair"));
        }
        if whole(folder, OLD) != old {
            wrong.push(format!("{name}: other bytes in the next run"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
