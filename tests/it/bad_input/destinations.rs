//! Outputs that cannot be written, or must not be.

use std::path::Path;

use dfq_onnx::onnx;

use super::{Case, case, check};
use crate::support::nets::sound;
use crate::support::program::{files, program, run};
use crate::support::{fixture, ort};

fn output(name: &'static str, flags: &'static str, code: i32, says: &'static [&'static str]) -> Case {
    case(name, prepared, format!("quantize model.onnx {flags}").leak(), code, says)
}

fn prepared(folder: &Path) {
    sound(folder);
    std::fs::write(folder.join("file"), "a regular file").unwrap();
    std::fs::create_dir(folder.join("folder")).unwrap();
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("model.onnx", folder.join("link.onnx")).unwrap();
        // Neither file nor folder, as a device is; a device would be at stake where this fails.
        std::os::unix::net::UnixListener::bind(folder.join("socket")).unwrap();
    }
}

#[test]
fn outputs_that_cannot_be_written_leave_nothing_behind() {
    check(&[
        output("missing folder", "-o absent/out.onnx", 5, &["cannot write", "there is no folder absent", "mkdir -p"]),
        output("below a file", "-o file/out.onnx", 5, &["cannot write", "file"]),
        #[cfg(target_os = "linux")]
        output("not writable", "-o /proc/out.onnx", 5, &["cannot write", "/proc"]),
        output("folder", "-o folder", 2, &["folder", "is a directory", "name a file"]),
        output("no file name", "-o ..", 2, &["is a directory", "name a file"]),
        #[cfg(unix)]
        output("socket", "-o socket", 2, &["socket", "no regular file"]),
        #[cfg(unix)]
        output("report: socket", "--report socket", 2, &["socket", "no regular file"]),
        output("report: missing folder", "--report absent/out.json", 5, &["cannot write", "absent"]),
        output("report: folder", "--report folder", 2, &["folder", "is a directory"]),
    ]);
}

#[test]
fn the_model_is_never_overwritten() {
    let refused = &["is the model itself", "another"];
    check(&[
        output("same path", "-o model.onnx", 2, refused),
        output("same path, spelt otherwise", "-o ./folder/../model.onnx", 2, refused),
        #[cfg(unix)]
        output("by a symbolic link", "-o link.onnx", 2, refused),
        output("by the report", "--report model.onnx", 2, refused),
        output("output by the report", "-o out.onnx --report out.onnx", 2, &["out.onnx", "two outputs"]),
    ]);
    let folder = tempfile::tempdir().unwrap();
    sound(folder.path());
    let before = std::fs::read(folder.path().join("model.onnx")).unwrap();
    let again = program(folder.path(), "quantize ./model.onnx -o model.onnx").output().unwrap();
    assert_eq!(again.status.code(), Some(2));
    assert_eq!(std::fs::read(folder.path().join("model.onnx")).unwrap(), before);
}

/// Puts a model with external data into `folder` as `model.onnx`; returns the name of its data.
fn with_weights(folder: &Path) -> String {
    let model = onnx::load(&fixture("digits_resnet8.onnx")).unwrap();
    let saved = onnx::save(&model, &folder.join("out.onnx"), 0).unwrap();
    std::fs::rename(folder.join("out.onnx"), folder.join("model.onnx")).unwrap();
    saved.data.unwrap().file_name().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn the_weights_of_the_model_are_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let data = with_weights(folder.path());
    let weights = |name: &'static str, command: &str| {
        let command = format!("{command} {data}").leak();
        case(
            name,
            |folder| drop(with_weights(folder)),
            command,
            2,
            &["holds the model's own weights", "name another output"],
        )
    };
    check(&[
        weights("by the model", "quantize model.onnx -o"),
        weights("by the report", "quantize model.onnx -o other.onnx --report"),
        weights("by statistics", "inspect model.onnx --bn-stats-out"),
    ]);
    let before = std::fs::read(folder.path().join(&data)).unwrap();
    let ran = run(folder.path(), "quantize model.onnx -o out.onnx --external-data --samples 4");
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(std::fs::read(folder.path().join(&data)).unwrap(), before);
    onnx::load(&folder.path().join("model.onnx")).unwrap();
}

/// Puts a file under each name that is read below, and links to some.
fn inputs(folder: &Path) {
    sound(folder);
    for folder_in in ["run", "graphs", "sub"] {
        std::fs::create_dir(folder.join(folder_in)).unwrap();
    }
    for name in ["out.failed.onnx", "graphs/distil.step.onnx"] {
        std::fs::copy(folder.join("model.onnx"), folder.join(name)).unwrap();
    }
    for name in ["t.npz", "s.json", "s.report.json", "lib.so", "run/distil.safetensors", "sub/t.npz"] {
        std::fs::write(folder.join(name), "what is read").unwrap();
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("t.npz", folder.join("link.npz")).unwrap();
        std::os::unix::fs::symlink("sub", folder.join("linked")).unwrap();
    }
}

#[test]
fn what_is_read_is_never_written() {
    let refused = |command: &'static str, says: &'static [&'static str]| case("read", inputs, command, 2, says);
    check(&[
        refused("quantize model.onnx --data t.npz --report t.npz", &["t.npz is read as --data"]),
        refused("quantize model.onnx --data t.npz -o ./sub/../t.npz", &["is read as --data"]),
        refused("quantize model.onnx --eval t.npz -o t.npz", &["t.npz is read as --eval"]),
        refused("quantize model.onnx --eval t.npz --report t.npz", &["t.npz is read as --eval"]),
        refused("quantize model.onnx --bn-stats s.json --report s.json", &["s.json is read as --bn-stats"]),
        refused("quantize model.onnx --bn-stats out.report.json -o out.onnx", &["is read as --bn-stats"]),
        refused("quantize model.onnx --ort-lib lib.so --report lib.so", &["lib.so is read as --ort-lib"]),
        refused("quantize out.failed.onnx -o out.onnx --keep-failed", &["is the model itself"]),
        refused("quantize model.onnx --data out.failed.onnx -o out.onnx --keep-failed", &["is read as --data"]),
        refused("synth model.onnx --bn-stats s.report.json -o s.npz", &["s.report.json is read as --bn-stats"]),
        refused("synth model.onnx -o model.onnx", &["is the model itself"]),
        refused("inspect model.onnx --bn-stats s.json --bn-stats-out s.json", &["is read as --bn-stats"]),
        refused("inspect model.onnx --ort-lib lib.so --bn-stats-out lib.so", &["is read as --ort-lib"]),
        #[cfg(unix)]
        refused("quantize model.onnx --data t.npz --report link.npz", &["is read as --data"]),
        #[cfg(unix)]
        refused("quantize model.onnx --data link.npz --report t.npz", &["is read as --data"]),
        #[cfg(unix)]
        refused("quantize model.onnx --data sub/t.npz --report linked/t.npz", &["is read as --data"]),
        #[cfg(unix)]
        refused("quantize model.onnx -o sub/new.onnx --report linked/new.onnx", &["two outputs"]),
    ]);
}

#[test]
fn folders_that_files_are_written_into_hold_no_input_and_no_other_output() {
    let refused = |command: &'static str, says: &'static [&'static str]| case("folder", inputs, command, 2, says);
    check(&[
        refused("quantize model.onnx -o run/distil.safetensors --resume run", &["where --resume writes"]),
        refused("quantize model.onnx --data run/distil.safetensors --run-folder run", &["where --run-folder writes"]),
        refused("synth model.onnx --bn-stats run/distil.safetensors --resume run", &["where --resume writes"]),
        refused("quantize graphs/distil.step.onnx -o out.onnx --save-graphs graphs", &["where --save-graphs writes"]),
        refused("quantize model.onnx --eval graphs/distil.step.onnx --save-graphs graphs", &["--save-graphs"]),
        refused("quantize model.onnx --save-graphs t.npz", &["--save-graphs t.npz is not a folder"]),
        refused("quantize model.onnx --run-folder t.npz", &["--run-folder t.npz is not a folder"]),
    ]);
}

/// A limit on file sizes stands for a full disk: both make `write` fail halfway.
#[cfg(unix)]
#[test]
fn a_disk_that_fills_up_leaves_no_file() {
    // Fetched before the limit, which would stop pip as well.
    ort();
    let folder = tempfile::tempdir().unwrap();
    let quantize = program(folder.path(), "quantize {fixtures}/digits_resnet8.onnx -o out.onnx");
    let limited = limited(&quantize, folder.path(), "ulimit -f 8");
    let stderr = String::from_utf8(limited.stderr).unwrap();
    assert_eq!(limited.status.code(), Some(5), "{stderr}");
    assert!(stderr.starts_with("error: cannot write") && limited.stdout.is_empty(), "{stderr}");
    assert!(files(folder.path()).is_empty(), "{:?}", files(folder.path()));
}

/// Returns what the program does after the shell command `limit`.
#[cfg(unix)]
fn limited(program: &std::process::Command, folder: &Path, limit: &str) -> std::process::Output {
    std::process::Command::new("sh")
        .args(["-c", &format!("{limit}; exec \"$@\""), "sh"])
        .arg(program.get_program())
        .args(program.get_args())
        .current_dir(folder)
        .output()
        .unwrap()
}

/// The small net is smaller than its report.
#[cfg(unix)]
#[test]
fn a_report_that_does_not_fit_leaves_the_model_of_before() {
    ort();
    let folder = tempfile::tempdir().unwrap();
    sound(folder.path());
    let quantize =
        |flags: &str| program(folder.path(), &format!("quantize model.onnx -o out.onnx --accept broken {flags}"));
    assert_eq!(quantize("").output().unwrap().status.code(), Some(0));
    let read = || ["out.onnx", "out.report.json"].map(|name| std::fs::read(folder.path().join(name)).unwrap());
    let before = read();
    let report_blocks = before[1].len() / 512;
    assert!(before[0].len() / 512 + 2 < report_blocks, "{} and {}", before[0].len(), before[1].len());
    let limit = format!("ulimit -f {}", before[0].len() / 512 + 2);
    for signal in ["", "trap '' XFSZ; "] {
        let limited = limited(&quantize("--bits 7"), folder.path(), &format!("{signal}{limit}"));
        let stderr = String::from_utf8(limited.stderr).unwrap();
        assert_eq!(limited.status.code(), Some(5), "{signal}: {stderr}");
        assert!(stderr.contains("cannot write") && stderr.contains("out.report.json"), "{stderr}");
        assert!(read() == before, "{signal}: model or report changed");
        assert_eq!(files(folder.path()).len(), 3, "{:?}", files(folder.path()));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_stdout_is_a_missing_resource_and_a_full_stderr_is_no_panic() {
    let full = || std::fs::File::create("/dev/full").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let inspect = program(folder.path(), "inspect {fixtures}/digits_resnet8.onnx").stdout(full()).output().unwrap();
    let stderr = String::from_utf8(inspect.stderr).unwrap();
    assert_eq!(inspect.status.code(), Some(5), "{stderr}");
    assert!(stderr.contains("cannot write") && stderr.contains("stdout"), "{stderr}");
    let status = program(folder.path(), "inspect absent.onnx").stderr(full()).status().unwrap();
    assert_eq!(status.code(), Some(3));
}
