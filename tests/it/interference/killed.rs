//! Runs that are killed while they replace a model: the old model is there or the new one, with its own data where that lies
//! in a file of its own, and the next run leaves nothing else.
//!
//! Some kills at chosen and random moments; `DFQ_ONNX_KILLS=N` makes N of them for each form of file.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dfq_onnx::digest::sha256_of_file;
use dfq_onnx::onnx;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::started;
use crate::support::program::{files, run};

const OLD: &str = "quantize {fixtures}/digits_resnet8.onnx -o o.onnx --samples 2 --recipe nearest --per-tensor";
const NEW: &str = "quantize {fixtures}/digits_resnet8.onnx -o o.onnx --samples 2 --recipe nearest --bits 5 --container int8 \
                   --accept broken";

/// How a model is written.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    OneFile,
    ExternalData,
}

impl Form {
    fn command(self, command: &str) -> String {
        match self {
            Form::OneFile => command.to_owned(),
            Form::ExternalData => format!("{command} --external-data"),
        }
    }

    /// Returns the digests of a model and its data, which is whole and has the name of its contents.
    fn digests(self, folder: &Path) -> Vec<String> {
        let model = folder.join("o.onnx");
        onnx::load(&model).unwrap();
        let read = onnx::files_of(&model).unwrap();
        let digests: Vec<String> = read.iter().map(|path| sha256_of_file(path).unwrap()).collect();
        match (self, read.as_slice()) {
            (Form::OneFile, [_]) => {}
            (Form::ExternalData, [_, data]) => {
                let name = format!("o.onnx.{}.data", &digests[1][..16]);
                assert!(data.to_string_lossy().ends_with(&name), "{}", data.display());
            }
            _ => panic!("{read:?}"),
        }
        digests
    }

    /// Runs a command to its end, which leaves model, data and report alone in the folder.
    fn whole(self, folder: &Path, command: &str) -> Vec<String> {
        let ran = run(folder, &self.command(command));
        assert_eq!(ran.code, Some(0), "{command}: {}", ran.stderr);
        let digests = self.digests(folder);
        let left: Vec<PathBuf> =
            files(folder).into_iter().filter(|path| !path.to_string_lossy().starts_with("o.")).collect();
        assert!(left.is_empty() && files(folder).len() == digests.len() + 1, "{:?}", files(folder));
        digests
    }
}

#[test]
fn a_model_with_external_data_is_replaced_whole_or_not_at_all() {
    is_replaced_whole_or_not_at_all(Form::ExternalData, 12);
}

#[test]
fn a_model_in_one_file_is_replaced_whole_or_not_at_all() {
    is_replaced_whole_or_not_at_all(Form::OneFile, 5);
}

/// Kills a run at `kills` moments, as soon as something is to be seen and then at random ones.
fn is_replaced_whole_or_not_at_all(form: Form, kills: usize) {
    let kills = std::env::var("DFQ_ONNX_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(kills);
    let made = tempfile::tempdir().unwrap();
    let folder = made.path();
    let begun = Instant::now();
    let new = form.whole(folder, NEW);
    let span = begun.elapsed();
    let old = form.whole(folder, OLD);
    assert_ne!(old, new);
    let has = |part: &'static str| move || files(folder).iter().any(|path| path.to_string_lossy().contains(part));
    let mut rng = ChaCha8Rng::seed_from_u64(19);
    let mut moments: Vec<(String, Box<dyn Fn() -> bool>)> = vec![
        ("a draft folder".to_owned(), Box::new(has(".dfq-onnx-"))),
        (
            "a draft of the model".to_owned(),
            Box::new(|| {
                files(folder).iter().any(|path| path.ends_with("o.onnx") && path.parent() != Some(Path::new("")))
            }),
        ),
        ("a draft of the report".to_owned(), Box::new(has("/o.report.json"))),
        ("the new model in place".to_owned(), Box::new(|| sha256_of_file(&folder.join("o.onnx")).unwrap() == new[0])),
    ];
    if let Some(data) = new.get(1).map(|digest| format!("o.onnx.{}.data", &digest[..16])) {
        moments.push(("a draft of data".to_owned(), Box::new(has("/o.onnx."))));
        moments.push(("new data in place".to_owned(), Box::new(move || folder.join(&data).exists())));
    }
    for _ in moments.len()..kills {
        let after = Duration::from_secs_f64(rng.random_range(0.0..1.0) * span.as_secs_f64());
        let since = std::cell::OnceCell::new();
        moments.push((format!("{after:?}"), Box::new(move || since.get_or_init(Instant::now).elapsed() >= after)));
    }
    let mut wrong = Vec::new();
    for (name, moment) in moments {
        let mut child = started(folder, &form.command(NEW), moment);
        child.kill().unwrap();
        child.wait().unwrap();
        let found = form.digests(folder);
        if found != old && found != new {
            wrong.push(format!("{name}: neither model"));
        }
        if form.whole(folder, OLD) != old {
            wrong.push(format!("{name}: other bytes in the next run"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
