//! The `dfq-onnx` command.

use std::process::ExitCode;

use dfq_onnx::runtime::TELEMETRY_SWITCH;

fn main() -> ExitCode {
    switch_telemetry_off();
    // A panic is a bug of ours: its message is on stderr by now, and 1 is the code that the documentation gives to it.
    std::panic::catch_unwind(|| dfq_onnx::cli::run(std::env::args_os())).unwrap_or(ExitCode::FAILURE)
}

#[allow(unsafe_code)]
fn switch_telemetry_off() {
    // SAFETY: this is the first thing that `main` does: no other thread exists that could read the environment.
    unsafe { std::env::set_var(TELEMETRY_SWITCH, "1") };
}
