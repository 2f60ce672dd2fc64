//! The bytes that recipes write for the fixtures, whose statistics say everything that these recipes go by: the files do
//! not depend on the kernels of a runtime.

use dfq_onnx::digest::sha256;

use crate::support::program::as_typed;

/// Statistics of the digits.
const INPUT: &str = "--mean 0.3 --std 0.34";

/// Model, recipe, flags, and the start of the digest of the file without the version of the program.
const CASES: &[(&str, &str, &str, &str)] = &[
    ("digits_resnet8", "nearest", "--bits 8", "23f4b238999cb783"),
    ("digits_resnet8", "nearest", "--bits 4 --all-layers --per-tensor", "78104f3d19b153b4"),
    ("digits_resnet8", "nearest", "--precision w4a8 --affine --target ort-cpu", "d504923b670e14e4"),
    ("digits_resnet8", "squant", "--bits 8", "503e8d4e8d38df03"),
    ("digits_resnet8", "squant", "--bits 4 --all-layers --per-tensor", "820c86c04e91c431"),
    ("digits_resnet8", "squant", "--precision w4a8 --affine --target ort-cpu", "a8cd5e49cda6c001"),
    ("digits_resnet8", "dfq2019", "--bits 8", "b392d3349ccbc879"),
    ("digits_resnet8", "dfq2019", "--bits 4 --all-layers --per-tensor", "2f2391ddcdc21fbe"),
    ("digits_resnet8", "dfq2019", "--precision w4a8 --affine --target ort-cpu", "bb49f1417f904e86"),
    ("digits_mobilenet", "nearest", "--bits 8", "715c4efa0954093d"),
    ("digits_mobilenet", "nearest", "--bits 4 --all-layers --per-tensor", "448e867b046d445e"),
    ("digits_mobilenet", "nearest", "--precision w4a8 --affine --target ort-cpu", "5eb0ce2e3f5ce3e0"),
    ("digits_mobilenet", "squant", "--bits 8", "47363d3c17f82201"),
    ("digits_mobilenet", "squant", "--bits 4 --all-layers --per-tensor", "af952de129b9c858"),
    ("digits_mobilenet", "squant", "--precision w4a8 --affine --target ort-cpu", "748641c62f7908b4"),
    ("digits_mobilenet", "dfq2019", "--bits 8", "0ba094b5359a5a42"),
    ("digits_mobilenet", "dfq2019", "--bits 4 --all-layers --per-tensor", "72999931f2b24e53"),
    ("digits_mobilenet", "dfq2019", "--precision w4a8 --affine --target ort-cpu", "3d88b685d58910e0"),
];

#[test]
fn recipes_that_go_by_statistics_write_the_same_bytes_on_every_machine() {
    let version = env!("CARGO_PKG_VERSION");
    // The field of `ModelProto` that holds the version.
    let field = [&[0x1a, u8::try_from(version.len()).unwrap()], version.as_bytes()].concat();
    let mut failed = Vec::new();
    for (model, recipe, flags, expected) in CASES {
        let folder = tempfile::tempdir().unwrap();
        let fixed = format!("-o q.onnx --recipe {recipe} {INPUT} --samples 2 --keep-failed");
        let ran =
            as_typed(folder.path(), &format!("quantize {{fixtures}}/{model}.onnx {fixed} {flags}")).output().unwrap();
        let Ok(bytes) = std::fs::read(folder.path().join("q.onnx")) else {
            failed.push(format!("{model}, {recipe} {flags}: {}", String::from_utf8_lossy(&ran.stderr)));
            continue;
        };
        let at = bytes.windows(field.len()).position(|window| window == field).unwrap();
        let found = sha256([&bytes[..at], &bytes[at + field.len()..]]);
        if !found.starts_with(expected) {
            failed.push(format!("{model}, {recipe} {flags}: {found}"));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
