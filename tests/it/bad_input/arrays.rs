//! Files of arrays that are damaged, that ask for more than they hold, or that are no files.

use std::io::{Cursor, Write};
use std::path::Path;

use dfq_onnx::data::npz_bytes;
use dfq_onnx::ir::Tensor;
use zip::write::SimpleFileOptions;

use super::{Case, case, check};
use crate::support::nets::sound;
use crate::support::program::run;

/// Returns an `.npy` file by its header and what stands behind it.
fn npy(descriptor: &str, is_fortran: bool, shape: &str, values: &[u8]) -> Vec<u8> {
    let order = if is_fortran { "True" } else { "False" };
    with_header(&format!("{{'descr': '{descriptor}', 'fortran_order': {order}, 'shape': {shape}, }}\n"), values)
}

fn with_header(header: &str, values: &[u8]) -> Vec<u8> {
    let length = u32::try_from(header.len()).unwrap().to_le_bytes();
    [&b"\x93NUMPY\x02\x00"[..], &length, header.as_bytes(), values].concat()
}

fn zip(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut file = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in members {
        file.start_file(*name, SimpleFileOptions::default()).unwrap();
        file.write_all(bytes).unwrap();
    }
    file.finish().unwrap().into_inner()
}

/// Returns images for the small network, and labels.
fn images() -> (Vec<u8>, Vec<u8>) {
    let labels: Vec<u8> = (0..4u8).flat_map(|label| i64::from(label % 2).to_le_bytes()).collect();
    let pixels: Vec<u8> = (0..4 * 36u16).flat_map(|i| (f32::from(i % 7) / 7.0).to_le_bytes()).collect();
    (npy("<f4", false, "(4, 1, 6, 6)", &pixels), npy("<i8", false, "(4,)", &labels))
}

/// The commands that read arrays.
const COMMANDS: [&str; 5] = [
    "quantize model.onnx --data data.npz",
    "quantize model.onnx --eval data.npz",
    "quantize model.onnx --bn-stats data.npz",
    "eval model.onnx data.npz",
    "bench model.onnx --data data.npz",
];

fn with_data(bytes: Vec<u8>) -> impl Fn(&Path) {
    move |folder: &Path| {
        sound(folder);
        std::fs::write(folder.join("data.npz"), &bytes).unwrap();
    }
}

#[test]
fn arrays_that_are_damaged_or_ask_for_too_much_are_refused() {
    let member = |array: Vec<u8>| zip(&[("x.npy", array), ("labels.npy", images().1)]);
    let wrong_sum = |name: &str| {
        let (images, labels) = (Tensor::from_f32(&[2, 1, 6, 6], &[0.5; 72]), Tensor::from_i64(&[2], &[0, 1]));
        let mut bytes = npz_bytes(&[(name, &images), ("labels", &labels)]).unwrap();
        let at = bytes.windows(4).position(|four| four == b"PK\x01\x02").unwrap() + 16;
        bytes[at] ^= 1;
        bytes
    };
    let long_header = [&b"\x93NUMPY\x02\x00\xf0\xff\xff\xff"[..], &[b' '; 64]].concat();
    let nested = with_header(&format!("{}\n", "(".repeat(60_000)), &[]);
    let huge = "(9223372036854775807, 9223372036854775807, 8)";
    let kinds: Vec<(&'static str, Vec<u8>, &'static [&'static str])> = vec![
        ("checksum", wrong_sum("x"), &["data.npz", "x.npy", "CRC-32"]),
        ("checksum of images", wrong_sum("images"), &["data.npz", "images.npy", "CRC-32"]),
        ("zero of much", member(npy("<f4", true, "(0, 4611686018427387904)", &[])), &["overflows memory"]),
        ("much of zero", member(npy("<f4", true, "(4611686018427387904, 0, 3)", &[])), &["overflows memory"]),
        ("overflow", member(npy("<f4", false, huge, &[])), &["overflows memory"]),
        ("more than there is", member(npy("<f4", false, "(1000000, 1, 6, 6)", &[0; 64])), &["needs 144000000 bytes"]),
        ("less than there is", member(npy("<f4", false, "(1, 1, 2, 2)", &[0; 64])), &["needs 16 bytes, found 64"]),
        ("long header", member(long_header), &["x.npy", "header"]),
        ("nested header", member(nested), &["x.npy", "header"]),
        ("objects", member(npy("|O", false, "(4, 1, 6, 6)", &[0; 64])), &["x.npy", "|O"]),
    ];
    let commands =
        ["eval model.onnx data.npz", "quantize model.onnx --data data.npz", "quantize model.onnx --eval data.npz"];
    let of = |(name, bytes, says): &(&'static str, Vec<u8>, &'static [&'static str])| {
        commands.map(|command| case(name, with_data(bytes.clone()), command, 3, says))
    };
    let cases: Vec<Case> = kinds.iter().flat_map(of).collect();
    check(&cases);
}

#[test]
fn members_that_are_not_used_are_not_read() {
    let (images, labels) = images();
    let forever = npy("<f4", false, "(1000000000, 1, 8, 8)", &[0; 64]);
    let words = npy("<U5", false, "(4,)", &[0; 80]);
    let members = [
        ("x.npy", images),
        ("labels.npy", labels),
        ("forever.npy", forever),
        ("words.npy", words),
        ("x.y.npy", vec![0; 9]),
    ];
    let folder = tempfile::tempdir().unwrap();
    with_data(zip(&members))(folder.path());
    for command in ["eval model.onnx data.npz", "quantize model.onnx --data data.npz -o out.onnx --accept broken"] {
        let ran = run(folder.path(), command);
        assert_eq!(ran.code, Some(0), "{command}: {}", ran.stderr);
    }
}

/// Pipes that nobody writes to, and devices: a run that waits for them ends in a timeout of the whole suite.
#[cfg(unix)]
#[test]
fn pipes_and_devices_are_refused_wherever_a_file_is_read() {
    let pipe = |folder: &Path| {
        sound(folder);
        std::fs::create_dir(folder.join("run")).unwrap();
        for name in ["data.npz", "pipe.onnx", "run/distil.safetensors", "lib.so"] {
            assert!(std::process::Command::new("mkfifo").arg(folder.join(name)).status().unwrap().success());
        }
    };
    let refused: &[&str] = &["data.npz", "not a regular file"];
    let mut cases: Vec<Case> = COMMANDS.iter().map(|command| case("pipe", pipe, command, 3, refused)).collect();
    for (command, code) in [
        ("quantize pipe.onnx", 3),
        ("inspect pipe.onnx", 3),
        ("inspect model.onnx --bn-stats data.npz", 3),
        ("synth model.onnx --bn-stats data.npz", 3),
        ("quantize model.onnx --bn-stats /dev/zero", 3),
        ("quantize model.onnx --data /dev/zero", 3),
        ("quantize model.onnx --recipe lsq --steps 2 --batch 4 --resume run", 3),
        ("inspect model.onnx --ort-lib lib.so", 5),
    ] {
        cases.push(case("pipe", pipe, command, code, &[]));
    }
    check(&cases);
}
