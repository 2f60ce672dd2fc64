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
    let no_graph = &["error: model.onnx", "is this an ONNX file?"];
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
        refused("empty file", Vec::new(), no_graph),
        refused("text", b"# a read-me, and not a model\n".to_vec(), no_protobuf),
        refused("noise", noise, no_protobuf),
        refused("cut in the middle", digits[..digits.len() / 2].to_vec(), no_protobuf),
        refused("last byte missing", digits[..digits.len() - 1].to_vec(), no_protobuf),
        refused("first byte missing", digits[1..].to_vec(), &["error: model.onnx"]),
        refused("zeros", vec![0; 100], no_protobuf),
    ]);
}
