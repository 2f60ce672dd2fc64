//! What others do meanwhile: they kill a run, change what it reads, start another one beside it, or damage its library.

mod killed;
mod library;

use std::io::Write;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use dfq_onnx::onnx;

use crate::support::fixture;
use crate::support::nets::{net, sound};
use crate::support::program::{files, program, run};

/// How long something may take to happen.
const PATIENCE: Duration = Duration::from_secs(300);

/// Starts the program, and waits until `happened`.
fn started(folder: &Path, command: &str, happened: impl Fn() -> bool) -> Child {
    let mut child = program(folder, command).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while !happened() && child.try_wait().unwrap().is_none() && begun.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_micros(200));
    }
    child
}

fn stderr_of(child: Child) -> (Option<i32>, String) {
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// Changes a byte so that the file is a model still, if it was one.
fn change(contents: &mut [u8]) {
    let is_model = |contents: &[u8]| onnx::decode(contents.to_vec().into()).is_ok();
    let (was_model, middle) = (is_model(contents), contents.len() / 2);
    for at in middle..contents.len() {
        contents[at] ^= 1;
        if !was_model || is_model(contents) {
            return;
        }
        contents[at] ^= 1;
    }
    panic!("no byte can be changed");
}

#[test]
fn a_file_that_changes_while_it_is_read_ends_the_run_and_leaves_no_model() {
    for changed in ["model.onnx", "stats.json", "digits.npz"] {
        let made = tempfile::tempdir().unwrap();
        let folder = made.path();
        std::fs::copy(fixture("digits_resnet8.onnx"), folder.join("model.onnx")).unwrap();
        std::fs::copy(fixture("digits_test.npz"), folder.join("digits.npz")).unwrap();
        assert_eq!(run(folder, "inspect model.onnx --bn-stats-out stats.json").code, Some(0));
        let quantize = "quantize model.onnx --recipe nearest -o out.onnx --bn-stats stats.json --eval digits.npz --mean 0.3 \
                        --std 0.34";
        // The checks begin, which take longer than what is done here.
        let is_drafted = || files(folder).iter().any(|path| path.ends_with("out.onnx"));
        let child = started(folder, quantize, is_drafted);
        let file = folder.join(changed);
        let mut contents = std::fs::read(&file).unwrap();
        change(&mut contents);
        // In its place, as what is mapped sees it too.
        std::fs::OpenOptions::new().write(true).open(&file).unwrap().write_all(&contents).unwrap();
        let (code, stderr) = stderr_of(child);
        assert_eq!(code, Some(3), "{changed}: {stderr}");
        assert!(stderr.contains(&format!("{changed}: changed while it was read")), "{stderr}");
        assert!(!folder.join("out.onnx").exists() && !folder.join("out.report.json").exists(), "{:?}", files(folder));
    }
}

#[test]
fn a_run_folder_has_one_run_at_a_time() {
    let made = tempfile::tempdir().unwrap();
    let folder = made.path();
    std::fs::copy(fixture("digits_resnet8.onnx"), folder.join("model.onnx")).unwrap();
    let train = "quantize model.onnx --bits 4 --recipe lsq --steps 100000 --batch 4 --samples 4 --run-folder run";
    let mut first = started(folder, &format!("{train} -o first.onnx"), || folder.join("run/.lock").exists());
    let other = "quantize model.onnx --bits 4 --recipe lsq --steps 9 --batch 4 -o second.onnx";
    for flags in ["--run-folder run", "--resume run"] {
        let second = run(folder, &format!("{other} {flags}"));
        assert_eq!(second.code, Some(2), "{flags}: {}", second.stderr);
        assert!(second.stderr.contains("run is in use by another run"), "{flags}: {}", second.stderr);
        assert!(second.left.is_empty(), "{flags}: {:?}", second.left);
    }
    first.kill().unwrap();
    first.wait().unwrap();
    // Its lock went with it.
    let again = run(folder, &format!("{other} --resume run"));
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    assert!(!files(folder).iter().any(|path| path.to_string_lossy().contains("/.")), "{:?}", files(folder));
}

#[cfg(unix)]
#[test]
fn paths_that_are_no_unicode_work() {
    use std::os::unix::ffi::OsStrExt;
    let made = tempfile::tempdir().unwrap();
    let folder = made.path().join(std::ffi::OsStr::from_bytes(b"folder\xff"));
    std::fs::create_dir(&folder).unwrap();
    sound(&folder);
    let named = |bytes: &[u8]| std::ffi::OsStr::from_bytes(bytes).to_owned();
    let model = folder.join(named(b"m\xfe.onnx"));
    std::fs::rename(folder.join("model.onnx"), &model).unwrap();
    let out = folder.join(named(b"out\xfd.onnx"));
    let mut wrong = Vec::new();
    for (what, command, paths) in [
        ("quantize", "quantize --accept broken --format json", vec![model.clone(), "-o".into(), out.clone()]),
        ("external data", "quantize --accept broken --external-data", vec![model.clone(), "-o".into(), out.clone()]),
        ("inspect", "inspect --format json", vec![model.clone()]),
        ("audit", "audit --format json", vec![out.clone()]),
        ("lint", "lint --format json", vec![out.clone()]),
        ("verify", "verify --accept broken --format json", vec![model.clone(), out.clone()]),
        ("bench", "bench --runs 1 --format json", vec![model.clone(), out.clone()]),
        ("sensitivity", "sensitivity --format json", vec![model.clone()]),
    ] {
        let done = program(made.path(), command).args(&paths).output().unwrap();
        if done.status.code() != Some(0) {
            wrong.push(format!("{what}: {:?} {}", done.status.code(), String::from_utf8_lossy(&done.stderr)));
        }
        if command.contains("json") && serde_json::from_slice::<serde_json::Value>(&done.stdout).is_err() {
            wrong.push(format!("{what}: {}", String::from_utf8_lossy(&done.stdout)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn control_characters_in_names_reach_no_terminal() {
    let made = tempfile::tempdir().unwrap();
    let folder = made.path();
    let odd = "c\u{1b}[2J\nerror: none\r\u{202e}";
    let named = net(|graph| {
        graph.nodes.iter_mut().for_each(|node| node.name = format!("{odd}{}", node.op_type));
    });
    std::fs::write(folder.join("model.onnx"), named).unwrap();
    let unknown = net(|graph| {
        let node = &mut graph.nodes[0];
        (node.name, node.op_type) = (odd.to_owned(), odd.to_owned());
    });
    std::fs::write(folder.join("unknown.onnx"), unknown).unwrap();
    let mut wrong = Vec::new();
    for command in [
        "quantize model.onnx --accept broken -v",
        "quantize model.onnx --exclude nothing",
        "quantize unknown.onnx",
        "inspect model.onnx",
        "inspect unknown.onnx",
        "sensitivity model.onnx",
    ] {
        let ran = run(folder, command);
        for (stream, text) in [("stdout", &ran.stdout), ("stderr", &ran.stderr)] {
            let is_odd = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
            if text.contains(is_odd) || text.lines().any(|line| line.starts_with("error: none")) {
                wrong.push(format!("{command}, {stream}: {text:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
