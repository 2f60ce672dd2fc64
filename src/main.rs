//! The `dfq-onnx` command.

fn main() {}
