//! The `dfq-onnx` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    dfq_onnx::cli::run(std::env::args_os())
}
