//! Errors that end a command: text on stderr, and with `--format json` a document on stdout as well.

use std::ffi::OsString;
use std::process::ExitCode;

use serde::Serialize;

use super::{print_document, say};
use crate::error::Error;
use crate::shown::escaped;

/// The JSON document in place of results.
#[derive(Serialize)]
struct Failure<'a> {
    error: &'a str,
    kind: &'a str,
    exit_code: u8,
}

/// Returns whether the arguments, which may be invalid, request JSON.
pub(super) fn wants_json(arguments: &[OsString]) -> bool {
    let is = |argument: &OsString, text: &str| argument == text;
    let apart = arguments.windows(2).any(|pair| is(&pair[0], "--format") && is(&pair[1], "json"));
    apart || arguments.iter().any(|argument| is(argument, "--format=json"))
}

/// Reports the error of a command, and returns the exit code.
pub(super) fn ended_by(error: &anyhow::Error, wants_json: bool) -> ExitCode {
    let own = error.downcast_ref::<Error>();
    let (kind, exit_code) = own.map_or(("internal", 1), |error| (error.kind(), error.exit_code()));
    let text = escaped(&format!("{error:#}")).into_owned();
    say(&format!("error: {text}"));
    tell(&Failure { error: &text, kind, exit_code }, wants_json)
}

/// Reports invalid arguments, or prints the requested help; returns the exit code.
pub(super) fn not_parsed(error: &clap::Error, wants_json: bool) -> ExitCode {
    let _ = error.print();
    let exit_code = u8::try_from(error.exit_code()).unwrap_or(2);
    let text = error.to_string();
    // The rest is general usage.
    let first = text.split("\n\nUsage:").next().unwrap_or_default().trim();
    let error_text = first.strip_prefix("error: ").unwrap_or(first);
    tell(&Failure { error: error_text, kind: "usage", exit_code }, wants_json && error.use_stderr())
}

fn tell(failure: &Failure, wants_json: bool) -> ExitCode {
    // Where stdout is closed, the error is on stderr.
    let _ = if wants_json { print_document(failure) } else { Ok(()) };
    ExitCode::from(failure.exit_code)
}
