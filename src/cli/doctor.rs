//! `dfq-onnx doctor`.

use std::path::PathBuf;

use clap::Args;

use super::{Format, print_document, print_text};
use crate::runtime::{Places, doctor::examine};

#[derive(Args)]
pub(super) struct Arguments {
    /// ONNX Runtime library to examine
    #[arg(long, value_name = "FILE")]
    ort_lib: Option<PathBuf>,
    /// Output format
    #[arg(long, default_value = "table")]
    format: Format,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let doctor = examine(&Places::of_this_process(arguments.ort_lib.as_deref()));
    match arguments.format {
        Format::Json => print_document(&doctor)?,
        Format::Table => print_text(&doctor.to_string())?,
    }
    // What was named and cannot be used is no finding but a mistake.
    match (&arguments.ort_lib, &doctor.used, doctor.advice.first()) {
        (Some(_), None, Some(why)) => {
            super::say(&format!("error: {why}"));
            Ok(5)
        }
        _ => Ok(0),
    }
}
