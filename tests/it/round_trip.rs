//! Loading and saving keeps every field of every model.

use dfq_onnx::onnx;

use crate::support::models;

#[test]
fn load_and_save_gives_the_same_bytes_for_every_model() {
    let mut failed = Vec::new();
    for path in models() {
        let original = std::fs::read(&path).unwrap();
        let saved = onnx::encode(&onnx::load(&path).unwrap()).unwrap();
        if saved != original {
            failed.push(format!("{}: {} bytes in, {} out", path.display(), original.len(), saved.len()));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
