//! Runs the program itself in a folder of its own.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::fixture;

/// What a run of the program left.
pub struct Ran {
    /// The exit code; none where a signal ended it.
    pub code: Option<i32>,
    /// What it printed to stdout.
    pub stdout: String,
    /// What it printed to stderr.
    pub stderr: String,
    /// Files and folders that are there and were not before.
    pub left: Vec<PathBuf>,
}

impl Ran {
    /// Returns stdout as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {}\n{}", self.stdout, self.stderr))
    }
}

/// Returns the program, about to run in `folder` with the words of `arguments`; `{fixtures}` is replaced.
pub fn as_typed(folder: &Path, arguments: &str) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("dfq-onnx"));
    let fixtures = fixture("").display().to_string();
    command.args(arguments.split_whitespace().map(|word| word.replace("{fixtures}/", &fixtures)));
    command.current_dir(folder).env_remove("DFQ_ONNX_LOG");
    command
}

/// Returns the same, but that models are quantized without training, which takes minutes, where no recipe is named, and
/// activations are too, although small models tell nothing of what they are fed, where nothing is said of them.
pub fn program(folder: &Path, arguments: &str) -> Command {
    let is_named = |flags: &[&str]| flags.iter().any(|flag| arguments.contains(flag));
    let mut typed = arguments.to_owned();
    if arguments.starts_with("quantize") && !is_named(&["--recipe", "--effort", "--stages"]) {
        typed += " --effort fast";
    }
    if ["quantize", "sensitivity"].iter().any(|command| arguments.starts_with(command)) && !is_named(&["--activations"])
    {
        typed += " --activations quantized";
    }
    as_typed(folder, &typed)
}

/// Returns what `program(folder, arguments)` did.
pub fn run(folder: &Path, arguments: &str) -> Ran {
    let before = files(folder);
    let Output { status, stdout, stderr } = program(folder, arguments).output().unwrap();
    let mut left = files(folder);
    left.retain(|path| !before.contains(path));
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: status.code(), stdout: text(stdout), stderr: text(stderr), left }
}

/// Returns what `program(folder, arguments)` left when it was asked to stop once `may_stop` held, at the latest after five
/// minutes.
pub fn interrupted(folder: &Path, arguments: &str, may_stop: impl Fn() -> bool) -> Output {
    let mut command = program(folder, arguments);
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let started = Instant::now();
    while !may_stop() && started.elapsed() < Duration::from_secs(300) {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    child.wait_with_output().unwrap()
}

/// Returns everything in `folder` and below it, relative to it; folders may be removed meanwhile.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(next) = waiting.pop() {
        let entries = match std::fs::read_dir(&next) {
            Err(e) if e.kind() == ErrorKind::NotFound && next != folder => continue,
            entries => entries.unwrap(),
        };
        for entry in entries {
            let path = entry.unwrap().path();
            found.push(path.strip_prefix(folder).unwrap().to_owned());
            if path.is_dir() && !path.is_symlink() {
                waiting.push(path);
            }
        }
    }
    found.sort();
    found
}
