//! ONNX Runtime's usage data: none is sent, and no identifier is left in the user's folders.

use std::path::Path;

use crate::support::program::{files, program};
use crate::support::{fixture, ort};

/// Runs a command of a user whose home is empty, and returns what it left there.
fn left_at_home(folder: &Path, arguments: &str) -> Vec<String> {
    let home = tempfile::tempdir().unwrap();
    let mut command = program(folder, arguments);
    // Cargo sets the switch for tests; the program has to do so itself.
    command.env_remove(dfq_onnx::runtime::TELEMETRY_SWITCH);
    for variable in ["HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "LOCALAPPDATA", "APPDATA"] {
        command.env(variable, home.path());
    }
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    files(home.path()).iter().map(|path| path.display().to_string()).collect()
}

#[test]
fn no_command_leaves_an_identifier_of_onnx_runtime() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(fixture("digits_resnet8.onnx"), folder.path().join("m.onnx")).unwrap();
    let library = ort().library().display().to_string();
    let commands = [
        "quantize m.onnx -o q.onnx --samples 4",
        "verify m.onnx q.onnx --samples 4",
        "eval m.onnx {fixtures}/digits_test.npz --mean 0.3 --std 0.34 --limit 10",
        "bench m.onnx --runs 1",
        "inspect m.onnx",
        "sensitivity m.onnx --samples 4 --top 1",
    ];
    let with_library = commands.map(|command| format!("{command} --ort-lib {library}"));
    let offline = with_library.iter().map(|command| format!("{command} --offline"));
    let commands = with_library.iter().cloned().chain(offline).chain([format!("doctor --ort-lib {library}")]);
    let left = commands.map(|command| (left_at_home(folder.path(), &command), command));
    let wrong: Vec<_> = left.filter(|(left, _)| !left.is_empty()).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
