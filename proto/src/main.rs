//! Writes the types of the upstream `onnx.proto` to `src/onnx/proto.rs`, without needing `protoc`. With `--check` it
//! compares instead, and exits with 1 where they differ.

use std::path::Path;
use std::process::ExitCode;

/// The name that prost gives the types of the package `onnx`.
const GENERATED: &str = "onnx.rs";

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let committed = folder.join("../src/onnx/proto.rs");
    let scratch = std::env::temp_dir().join(format!("onnx-proto-{}", std::process::id()));
    std::fs::create_dir_all(&scratch)?;
    let descriptors = protox::compile([folder.join("onnx.proto")], [folder])?;
    // Weights stay slices of the mapped file instead of being copied.
    prost_build::Config::new().bytes(["."]).out_dir(&scratch).compile_fds(descriptors)?;
    let generated = std::fs::read_to_string(scratch.join(GENERATED))?;
    std::fs::remove_dir_all(&scratch)?;
    if !std::env::args().any(|argument| argument == "--check") {
        std::fs::write(&committed, generated)?;
        return Ok(ExitCode::SUCCESS);
    }
    if std::fs::read_to_string(&committed)? == generated {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("src/onnx/proto.rs is not what proto/onnx.proto gives; run: cargo run --manifest-path proto/Cargo.toml");
    Ok(ExitCode::FAILURE)
}
