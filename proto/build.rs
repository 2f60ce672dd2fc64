//! Compiles the upstream `onnx.proto` into prost types without needing `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/onnx.proto");
    let descriptors = protox::compile(["proto/onnx.proto"], ["proto"])?;
    // Weights stay slices of the mapped file instead of being copied.
    prost_build::Config::new().bytes(["."]).compile_fds(descriptors)?;
    Ok(())
}
