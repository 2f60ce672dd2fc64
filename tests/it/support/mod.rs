//! Where the tests find models: the project's fixtures, and larger ones beside the checkout where they lie.

use std::path::{Path, PathBuf};

/// Returns the path of a file in `fixtures/`.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// Returns the fixture models and, where `../shared/data` exists, the development models; says what is skipped.
pub fn models() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut models = Vec::new();
    for folder in [root.join("fixtures"), root.join("../shared/data")] {
        let Ok(entries) = std::fs::read_dir(&folder) else {
            eprintln!("skipped: no {}", folder.display());
            continue;
        };
        let paths = entries.filter_map(|e| Some(e.ok()?.path()));
        models.extend(paths.filter(|p| p.extension().is_some_and(|e| e == "onnx")));
    }
    models.sort();
    models
}
