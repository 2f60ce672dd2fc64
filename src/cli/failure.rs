//! What ends a command early: words on stderr, and with `--format json` a document on stdout as well.

use std::ffi::OsString;
use std::process::ExitCode;

use serde::Serialize;

use super::{print_document, say};
use crate::error::Error;
use crate::shown::escaped;

/// The document on stdout in place of results.
#[derive(Serialize)]
struct Failure<'a> {
    error: &'a str,
    kind: &'a str,
    exit_code: u8,
}

/// Returns whether results are asked for as JSON, by arguments that may not make sense otherwise.
pub(super) fn wants_json(arguments: &[OsString]) -> bool {
    let is = |argument: &OsString, text: &str| argument == text;
    let apart = arguments.windows(2).any(|pair| is(&pair[0], "--format") && is(&pair[1], "json"));
    apart || arguments.iter().any(|argument| is(argument, "--format=json"))
}

/// Tells of an error that ended a command, and returns the exit code.
pub(super) fn ended_by(error: &anyhow::Error, wants_json: bool) -> ExitCode {
    let own = error.downcast_ref::<Error>();
    let (kind, code) = own.map_or(("internal", 1), |error| (error.kind(), error.exit_code()));
    let text = escaped(&format!("{error:#}")).into_owned();
    say(&format!("error: {text}"));
    tell(&text, (kind, code), wants_json)
}

/// Tells of arguments that make no command, or gives the help that they ask for; returns the exit code.
pub(super) fn not_parsed(error: &clap::Error, wants_json: bool) -> ExitCode {
    let _ = error.print();
    let code = u8::try_from(error.exit_code()).unwrap_or(2);
    let text = error.to_string();
    // What follows is about usage in general.
    let first = text.split("\n\nUsage:").next().unwrap_or_default().trim();
    tell(first.strip_prefix("error: ").unwrap_or(first), ("usage", code), wants_json && error.use_stderr())
}

fn tell(error: &str, (kind, exit_code): (&str, u8), wants_json: bool) -> ExitCode {
    // Where stdout takes nothing, stderr has it.
    let _ = if wants_json { print_document(&Failure { error, kind, exit_code }) } else { Ok(()) };
    ExitCode::from(exit_code)
}
