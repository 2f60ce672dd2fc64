//! Outputs that cannot be written, or must not be.

use std::path::Path;

use dfq_onnx::onnx;

use super::{Case, case, check};
use crate::support::nets::sound;
use crate::support::program::{files, program};
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

#[test]
fn the_weights_of_the_model_are_never_overwritten() {
    let refused = &["holds the model's own weights", "name another output"];
    let with_weights = |name: &'static str, command: &'static str| {
        let make = |folder: &Path| {
            let model = onnx::load(&fixture("digits_resnet8.onnx")).unwrap();
            onnx::save(&model, &folder.join("out.onnx"), 0).unwrap();
            std::fs::rename(folder.join("out.onnx"), folder.join("model.onnx")).unwrap();
        };
        case(name, make, command, 2, refused)
    };
    check(&[
        with_weights("by external data", "quantize model.onnx -o out.onnx --external-data"),
        with_weights("by the model", "quantize model.onnx -o out.onnx.data"),
        with_weights("by the report", "quantize model.onnx -o other.onnx --report out.onnx.data"),
        with_weights("by statistics", "inspect model.onnx --bn-stats-out out.onnx.data"),
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
    let limited = std::process::Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$@\"", "sh"])
        .arg(quantize.get_program())
        .args(quantize.get_args())
        .current_dir(folder.path())
        .output()
        .unwrap();
    let stderr = String::from_utf8(limited.stderr).unwrap();
    assert_eq!(limited.status.code(), Some(5), "{stderr}");
    assert!(stderr.starts_with("error: cannot write") && limited.stdout.is_empty(), "{stderr}");
    assert!(files(folder.path()).is_empty(), "{:?}", files(folder.path()));
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
