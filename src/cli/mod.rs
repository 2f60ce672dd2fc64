//! The command line: arguments become a configuration; results go to stdout, everything else to stderr.

mod arguments;
mod audit;
mod bench;
mod destination;
mod doctor;
mod eval;
mod failure;
mod file_size;
mod inspect;
mod lint;
mod log;
mod model;
mod plan;
mod preprocess;
mod progress;
mod quantize;
mod quantized;
mod scale;
mod sensitivity;
mod shapes;
mod synth;
mod training;
mod verify;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use serde::Serialize;

use crate::error::Error;
use crate::report::{SCHEMA_VERSION, json};
use crate::shown::{escaped, escaped_lines};
use crate::verify::Check;

/// Data-free quantization of ONNX models, checked in tract and ONNX Runtime before the file is handed over.
#[derive(Parser)]
#[command(name = "dfq-onnx", version, max_term_width = 110, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Log more to stderr (-v, -vv)
    #[arg(short, long, global = true, display_order = 999, action = clap::ArgAction::Count)]
    verbose: u8,
}

const EXIT_CODES: &str = "Exit codes: 0 ok, 1 internal error, 2 usage, 3 bad or unsupported model, 4 check or threshold \
                          missed, 5 resources (memory, device, disk), 130 interrupted";

#[derive(Subcommand)]
enum Command {
    /// Quantize a float model without data, and check the result before it is written
    Quantize(Box<quantize::Arguments>),
    /// Generate synthetic inputs from the model's own statistics, for this or any other calibrator
    Synth(Box<synth::Arguments>),
    /// Rank layers by their sensitivity to quantization: each quantized alone, and each left float alone
    Sensitivity(Box<sensitivity::Arguments>),
    /// Compare a quantized model with its float original in both runtimes
    Verify(verify::Arguments),
    /// Show which nodes of a Q/DQ model a runtime computes in integers, and why not the others
    Audit(audit::Arguments),
    /// Show statistics, layers and sizes of a model, and which layers would stay float and why
    Inspect(inspect::Arguments),
    /// Check a quantized model for patterns that a target refuses, computes wrongly or runs slowly, without running it
    Lint(lint::Arguments),
    /// Measure top-1 accuracy on labeled images
    Eval(eval::Arguments),
    /// Measure latency and size of models side by side
    Bench(bench::Arguments),
    /// Show available runtimes and devices, and how to get the missing ones
    Doctor(doctor::Arguments),
}

/// The format of results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Tables for people.
    #[default]
    Table,
    /// One JSON document.
    Json,
}

/// Runs the command in `arguments` (the program's name first) and returns the process's exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().map(with_dashes).collect();
    let wants_json = failure::wants_json(&arguments);
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return failure::not_parsed(&error, wants_json),
    };
    log::start(cli.verbose);
    file_size::heed_limit();
    let result = match cli.command {
        Command::Quantize(arguments) => quantize::run(&arguments),
        Command::Synth(arguments) => synth::run(&arguments),
        Command::Sensitivity(arguments) => sensitivity::run(&arguments),
        Command::Verify(arguments) => verify::run(&arguments),
        Command::Audit(arguments) => audit::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Lint(arguments) => lint::run(&arguments),
        Command::Eval(arguments) => eval::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => failure::ended_by(&error, wants_json),
    }
}

/// Returns `--per_channel` as `--per-channel`: quantizers use both spellings.
fn with_dashes(argument: OsString) -> OsString {
    let Some(text) = argument.to_str().filter(|text| text.starts_with("--")) else { return argument };
    match text.split_once('=') {
        Some((flag, value)) => format!("{}={value}", flag.replace('_', "-")).into(),
        None => text.replace('_', "-").into(),
    }
}

/// A result with the schema version as its first field.
#[derive(Serialize)]
struct Document<'a, T> {
    schema_version: u32,
    #[serde(flatten)]
    contents: &'a T,
}

/// Prints one JSON document with a schema version.
fn print_document<T: Serialize>(contents: &T) -> anyhow::Result<()> {
    print(&json(&Document { schema_version: SCHEMA_VERSION, contents })?)
}

/// Prints text with escaped control characters.
fn print_text(text: &str) -> anyhow::Result<()> {
    print(&escaped_lines(text))
}

/// Prints `text` to stdout; a closed pipe is no error.
fn print(text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    match writeln!(std::io::stdout(), "{}", text.trim_end()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::write(std::path::Path::new("stdout"))(error).into())
        }
        _ => Ok(()),
    }
}

/// Reports failed checks on stderr, and returns whether there are any.
fn missed<'a>(checks: impl IntoIterator<Item = &'a Check>) -> bool {
    let mut missed = false;
    for check in checks.into_iter().filter(|check| !check.passed) {
        say(&format!("missed: {} ({}): {}", check.name, check.engine, check.message));
        missed = true;
    }
    missed
}

/// Prints `text` as one line to stderr; failures are ignored.
fn say(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{}", escaped(text));
}
