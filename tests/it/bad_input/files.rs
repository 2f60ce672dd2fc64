//! Files that are no model.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{case, check, refused};
use crate::support::{fixture, nets};

#[test]
fn what_is_no_model_file_is_refused_by_every_command() {
    let digits = std::fs::read(fixture("digits_resnet8.onnx")).unwrap();
    let mut noise = vec![0u8; 4096];
    ChaCha8Rng::seed_from_u64(1).fill_bytes(&mut noise);
    let no_protobuf = &["error: model.onnx", "not an ONNX file or is cut short"];
    let missing = &["cannot read absent.onnx", "No such file"];
    let folder = |folder: &std::path::Path| std::fs::create_dir(folder.join("model.onnx")).unwrap();
    check(&[
        case("missing", |_| (), "quantize absent.onnx", 3, missing),
        case("missing", |_| (), "quantize absent.onnx --dry-run", 3, missing),
        case("missing", |_| (), "inspect absent.onnx", 3, missing),
        case("missing", |_| (), "eval absent.onnx {fixtures}/digits_test.npz", 3, missing),
        case("missing original", nets::sound, "verify absent.onnx model.onnx", 3, missing),
        case("missing quantized", nets::sound, "verify model.onnx absent.onnx", 3, missing),
        case("folder", folder, "quantize model.onnx", 3, &["cannot read model.onnx", "directory"]),
        case("device", |_| (), "inspect /dev/zero", 3, &["/dev/zero", "regular file"]),
        refused("empty file", Vec::new(), &["error: model.onnx", "is empty"]),
        refused("text", b"# a read-me, and not a model\n".to_vec(), no_protobuf),
        refused("noise", noise, no_protobuf),
        refused("cut in the middle", digits[..digits.len() / 2].to_vec(), no_protobuf),
        refused("last byte missing", digits[..digits.len() - 1].to_vec(), no_protobuf),
        refused("first byte missing", digits[1..].to_vec(), &["error: model.onnx"]),
        refused("zeros", vec![0; 100], no_protobuf),
    ]);
}

#[test]
fn files_of_other_kinds_are_named_with_what_converts_them() {
    let padded = |start: &[u8]| [start, &[0; 600]].concat();
    check(&[
        refused("TensorFlow Lite", padded(b"\x1c\0\0\0TFL3"), &["a TensorFlow Lite model", "tf2onnx", "--tflite"]),
        refused("Keras", padded(b"\x89HDF\r\n\x1a\n"), &["a Keras file", "tf2onnx"]),
        refused("PyTorch", padded(b"PK\x03\x04\x14 archive/data.pkl"), &["a PyTorch file", "torch.onnx.export"]),
        refused("LFS", b"version https://git-lfs.github.com/spec/v1\n".to_vec(), &["Git LFS", "git lfs pull"]),
        refused("page", b"<html><body>404</body></html>".to_vec(), &["a web page", "download"]),
        case("the folder here", nets::sound, "quantize .", 3, &["cannot read .", "is a directory", "model.onnx"]),
        case("the folder here", nets::sound, "inspect .", 3, &["cannot read .", "is a directory", "model.onnx"]),
    ]);
}

#[test]
fn data_of_other_kinds_is_named_too() {
    let kinds: &[(&'static str, &'static [u8], &'static [&'static str])] = &[
        ("empty", b"", &["data.npz", "is not an .npz or .npy file", "numpy.savez"]),
        ("image", b"\x89PNG\r\n\x1a\n", &["data.npz", "it is an image", "numpy.savez"]),
        ("page", b"<!DOCTYPE html>", &["data.npz", "it is a web page"]),
    ];
    let make = |bytes: &'static [u8]| {
        move |folder: &std::path::Path| {
            nets::sound(folder);
            std::fs::write(folder.join("data.npz"), bytes).unwrap();
        }
    };
    let mut cases = Vec::new();
    for &(name, bytes, says) in kinds {
        for command in ["quantize model.onnx --data data.npz", "eval model.onnx data.npz"] {
            cases.push(case(name, make(bytes), command, 3, says));
        }
    }
    let folder = |folder: &std::path::Path| {
        nets::sound(folder);
        std::fs::create_dir(folder.join("images")).unwrap();
    };
    cases.push(case("folder", folder, "eval model.onnx images", 3, &["images", "is a directory", "numpy.savez"]));
    check(&cases);
}
