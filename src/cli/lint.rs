//! `dfq-onnx lint`.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::quantized::load_quantized;
use super::{Format, print_document, print_text};
use crate::lint::{Finding, Severity, lint};
use crate::plan::Target;
use crate::shape;
use crate::shown::escaped;

#[derive(Args)]
#[command(after_help = "Exit codes: 0 clean or warnings alone, 2 usage, 3 bad or unsupported model, 4 errors found")]
pub(super) struct Arguments {
    /// The Q/DQ model, ours or another tool's
    model: PathBuf,
    /// Target runtime
    #[arg(long, default_value = "onnx")]
    target: Target,
    /// Output format
    #[arg(long, default_value = "table")]
    format: Format,
}

#[derive(Serialize)]
struct Linted<'a> {
    #[serde(serialize_with = "crate::shown::path")]
    model: &'a PathBuf,
    target: Target,
    errors: usize,
    warnings: usize,
    findings: Vec<Finding>,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let mut graph = load_quantized(&arguments.model)?;
    // Shapes make some rules sharper; a file whose shapes are not understood is held against the others.
    let inferred = shape::infer(&mut graph);
    let findings = lint(&graph, arguments.target);
    let errors = findings.iter().filter(|f| f.severity == Severity::Error).count();
    let warnings = findings.len() - errors;
    let linted = Linted { model: &arguments.model, target: arguments.target, errors, warnings, findings };
    match arguments.format {
        Format::Json => print_document(&linted)?,
        Format::Table => print_text(&text(&linted))?,
    }
    if let Err(error) = inferred {
        super::say(&format!("warning: rules that need shapes were not fully checked: {error}"));
    }
    Ok(if errors == 0 { 0 } else { 4 })
}

fn text(linted: &Linted) -> String {
    let Linted { model, target, errors, warnings, findings } = linted;
    let mut lines: Vec<String> = findings.iter().map(|finding| escaped(&finding.to_string()).into_owned()).collect();
    let counts = format!("{errors} error(s), {warnings} warning(s)");
    lines.push(format!("{} for {}: {counts}", model.display(), target.name()));
    lines.join("\n")
}
