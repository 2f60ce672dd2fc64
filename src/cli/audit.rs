//! `dfq-onnx audit`.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::arguments::share;
use super::quantized::load_quantized;
use super::{Format, missed, print_document, print_text};
use crate::audit::{Audit, audit};
use crate::pipeline::coverage_gate;
use crate::plan::Target;
use crate::report::render_audit;
use crate::verify::Check;

#[derive(Args)]
pub(super) struct Arguments {
    /// The Q/DQ model, ours or another tool's
    model: PathBuf,
    /// Runtime whose kernels are considered; onnx means ONNX Runtime's CPU kernels
    #[arg(long, default_value = "ort-cpu")]
    target: Target,
    /// Exit with code 4 if less than this share of the multiply-accumulates runs in integers
    #[arg(long, value_name = "SHARE", value_parser = share)]
    min_coverage: Option<f64>,
    /// Output format
    #[arg(long, default_value = "table")]
    format: Format,
}

#[derive(Serialize)]
struct Audited<'a> {
    #[serde(serialize_with = "crate::shown::path")]
    model: &'a PathBuf,
    #[serde(flatten)]
    audit: &'a Audit,
    gates: &'a [Check],
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let audit = audit(&load_quantized(&arguments.model)?, arguments.target)?;
    let gates: Vec<Check> = arguments.min_coverage.map(|limit| coverage_gate(&audit, limit)).into_iter().collect();
    match arguments.format {
        Format::Json => print_document(&Audited { model: &arguments.model, audit: &audit, gates: &gates })?,
        Format::Table => print_text(&render_audit(&audit))?,
    }
    Ok(if missed(&gates) { 4 } else { 0 })
}
