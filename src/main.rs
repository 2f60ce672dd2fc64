//! The `dfq-onnx` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    // A panic is a bug of ours: its message is on stderr by now, and 1 is the code that the documentation gives to it.
    std::panic::catch_unwind(|| dfq_onnx::cli::run(std::env::args_os())).unwrap_or(ExitCode::FAILURE)
}
