//! Libraries of ONNX Runtime that are damaged: none is loaded, whoever put it where it lies.

use std::path::{Path, PathBuf};
use std::process::Output;

use crate::support::program::program;
use crate::support::{fixture, ort};

/// Puts the first `bytes` of the library that tests run with into `folder`; all of them for none.
fn copy(folder: &Path, bytes: Option<usize>) -> PathBuf {
    std::fs::create_dir_all(folder).unwrap();
    let mut library = std::fs::read(ort().library()).unwrap();
    library.truncate(bytes.unwrap_or(library.len()));
    let path = folder.join(ort().library().file_name().unwrap());
    std::fs::write(&path, library).unwrap();
    path
}

fn said(output: &Output) -> String {
    format!(
        "{:?}: {}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[test]
fn a_library_that_is_cut_short_is_refused_by_every_command() {
    let whole = std::fs::metadata(ort().library()).unwrap().len();
    let whole = usize::try_from(whole).unwrap();
    let mut wrong = Vec::new();
    for bytes in [0, 1000, 1 << 20, whole / 2, whole * 9 / 10, whole - 4096] {
        let made = tempfile::tempdir().unwrap();
        let path = copy(made.path(), Some(bytes));
        let model = fixture("digits_resnet8.onnx");
        for command in ["inspect", "doctor"] {
            let mut program = program(made.path(), command);
            program.args((command == "inspect").then_some(&model)).arg("--ort-lib").arg(&path);
            let output = program.output().unwrap();
            if output.status.code() != Some(5) || !said(&output).contains("truncated") {
                wrong.push(format!("{command}, {bytes} bytes: {}", said(&output)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Returns what the program does with a cache folder of its own, and without another library.
fn with_cache(cache: &Path, command: &str) -> Output {
    let mut program = program(cache, command);
    program.env("DFQ_ONNX_CACHE", cache).env("PATH", "").env_remove("ORT_DYLIB_PATH").output().unwrap()
}

#[test]
fn a_library_in_the_cache_is_held_against_what_was_unpacked() {
    let made = tempfile::tempdir().unwrap();
    let folder = made.path().join("onnxruntime-1.31.1");
    let path = copy(&folder, None);
    let (name, bytes) = (path.file_name().unwrap().to_str().unwrap(), std::fs::metadata(&path).unwrap().len());
    let sha256 = dfq_onnx::digest::sha256_of_file(&path).unwrap();
    let record = format!("{{\"library\": \"{name}\", \"bytes\": {bytes}, \"sha256\": \"{sha256}\"}}");
    std::fs::write(folder.join("unpacked.json"), record).unwrap();
    let inspect = "inspect {fixtures}/digits_resnet8.onnx --engine ort --offline";
    let run = || [with_cache(made.path(), inspect), with_cache(made.path(), "doctor")];
    let sound = run();
    assert!(sound.iter().all(|output| output.status.code() == Some(0)), "{}{}", said(&sound[0]), said(&sound[1]));
    // A byte of data near the end, where no code of ours goes.
    let mut library = std::fs::read(&path).unwrap();
    let last = library.len() - 100;
    library[last] ^= 1;
    std::fs::write(&path, &library).unwrap();
    let [_, doctor] = run();
    assert!(said(&doctor).contains("was unpacked; delete it"), "{}", said(&doctor));
    library.push(0);
    std::fs::write(&path, &library).unwrap();
    let [inspect, doctor] = run();
    assert!(inspect.status.code() == Some(5) && said(&inspect).contains("were unpacked"), "{}", said(&inspect));
    assert!(said(&doctor).contains("were unpacked"), "{}", said(&doctor));
}
