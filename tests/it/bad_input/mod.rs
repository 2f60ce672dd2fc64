//! What bad input gets: one clear error, the documented exit code, nothing on stdout and no file.

mod arrays;
mod destinations;
mod files;
mod fuzz;
mod graphs;
mod oversized;
mod refused_originals;
mod tensors;
mod trailing;
mod typed;

use std::path::Path;

use crate::support::program::run;

/// One row of a table.
pub struct Case {
    name: &'static str,
    make: Box<dyn Fn(&Path) + Sync>,
    command: &'static str,
    code: i32,
    says: &'static [&'static str],
}

/// Returns a case: `make` puts files into an empty folder in which `command` must end with `code` and a message that
/// holds all of `says`.
pub fn case(
    name: &'static str,
    make: impl Fn(&Path) + Sync + 'static,
    command: &'static str,
    code: i32,
    says: &'static [&'static str],
) -> Case {
    Case { name, make: Box::new(make), command, code, says }
}

/// Returns a case in which `quantize` refuses the bytes of a model with exit code 3.
pub fn refused(name: &'static str, model: Vec<u8>, says: &'static [&'static str]) -> Case {
    let make = move |folder: &Path| std::fs::write(folder.join("model.onnx"), &model).unwrap();
    case(name, make, "quantize model.onnx", 3, says)
}

/// Runs every case and reports all that fail.
pub fn check(cases: &[Case]) {
    let (first, second) = cases.split_at(cases.len() / 2);
    let half = |cases: &[Case]| cases.iter().filter_map(failure).collect::<Vec<String>>();
    let failed = std::thread::scope(|scope| {
        let other = scope.spawn(|| half(first));
        [half(second), other.join().unwrap()].concat()
    });
    assert!(failed.is_empty(), "{} of {} cases:\n{}", failed.len(), cases.len(), failed.join("\n"));
}

fn failure(case: &Case) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    (case.make)(folder.path());
    let ran = run(folder.path(), case.command);
    let mut wrong = Vec::new();
    if ran.code != Some(case.code) {
        wrong.push(format!("exit code {:?}, expected {}", ran.code, case.code));
    }
    wrong.extend(case.says.iter().filter(|text| !ran.stderr.contains(**text)).map(|text| format!("lacks \"{text}\"")));
    if ran.stderr.lines().filter(|line| line.starts_with("error: ")).count() != 1 {
        wrong.push("expected one line that begins with \"error: \"".to_owned());
    }
    if ran.stderr.contains("panicked") {
        wrong.push("panicked".to_owned());
    }
    if !ran.stdout.is_empty() {
        wrong.push(format!("stdout: {}", ran.stdout));
    }
    if !ran.left.is_empty() {
        wrong.push(format!("left {:?}", ran.left));
    }
    let report = || format!("- {} ({}): {}\n  {}", case.name, case.command, wrong.join("; "), ran.stderr.trim());
    (!wrong.is_empty()).then(report)
}
