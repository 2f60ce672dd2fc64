//! A verification as text.

use super::layout::{add_row, dash, end_of, paragraph, some_of, table};
use super::text::with_rest;
use crate::verdict::Judgement;
use crate::verify::{Check, OutputAgreement, Saturation, TensorError, Verification};

/// Rows of the ranked tables.
pub(super) const RANKED: usize = 8;

/// Returns a verification as tables: hard checks, thresholds, outputs and the layers with the largest own error.
pub fn render_verification(verification: &Verification) -> String {
    let inputs = if verification.synthetic_inputs { "synthetic inputs" } else { "given inputs" };
    let all: Vec<&Check> = verification.checks.iter().chain(&verification.gates).collect();
    let mut parts = vec![
        format!("checks on {} {inputs}\n{}", verification.samples, checks(&all)),
        format!("agreement with the float model (this is not accuracy)\n{}", outputs(&verification.outputs)),
    ];
    if !verification.blame.is_empty() {
        let table = blame(&verification.blame);
        parts.push(format!("layers by the error that each of them adds alone (relative RMS)\n{table}"));
    }
    let mut saturated: Vec<&Saturation> = verification.saturation.iter().filter(|s| s.saturated > 0).collect();
    saturated.sort_by(|a, b| b.relative_rms.total_cmp(&a.relative_rms));
    if !saturated.is_empty() {
        let table = saturation(&saturated);
        parts
            .push(format!("layers that saturate in integer kernels on x86 without VNNI (use --reduce-range)\n{table}"));
    }
    let notes: Vec<String> = verification.notes.iter().map(|note| paragraph("note:", note)).collect();
    parts.push(notes.join("\n"));
    parts.join("\n\n").trim_end().to_owned()
}

/// Returns the verdict in one line, and the next command to try in another.
pub fn render_judgement(judgement: &Judgement) -> String {
    let verdict = paragraph("verdict", &format!("{}: {}", judgement.verdict.word(), judgement.reason));
    format!("{verdict}\n{}", paragraph("next", &judgement.next))
}

fn checks(checks: &[&Check]) -> String {
    let mut table = table(&["check", "engine"], &["measured", "limit", "verdict"]);
    let number = |value: Option<f64>| value.map_or_else(dash, |v| format!("{v:.4}"));
    let mut said = Vec::new();
    for check in checks {
        let verdict = match (check.passed, check.is_report()) {
            (false, _) => "FAILED",
            (true, true) => "reported",
            (true, false) => "ok",
        };
        let (measured, limit) = (number(check.measured), number(check.limit));
        add_row(&mut table, [check.name.clone(), check.engine.clone(), measured, limit, verdict.to_owned()]);
        if !check.message.is_empty() && !check.passed {
            let text = format!("{} ({}): {}", check.name, check.engine, check.message);
            said.push(paragraph(&format!("{verdict}:"), &text));
        }
    }
    std::iter::once(table.trim_fmt()).chain(said).collect::<Vec<_>>().join("\n")
}

fn outputs(outputs: &[OutputAgreement]) -> String {
    let mut table = table(&["output"], &["SQNR dB", "cosine", "max error", "same top-1"]);
    for output in outputs {
        let number = |text: String| if output.labels { dash() } else { text };
        let relative = |text: String| if output.no_signal { "no signal".to_owned() } else { number(text) };
        add_row(
            &mut table,
            [
                output.output.clone(),
                relative(format!("{:.1}", output.sqnr_db)),
                relative(format!("{:.5}", output.cosine)),
                number(format!("{:.4}", output.max_abs)),
                output.top1_agreement.map_or_else(dash, |share| format!("{:.1} %", 100.0 * share)),
            ],
        );
    }
    table.trim_fmt()
}

fn blame(errors: &[TensorError]) -> String {
    let mut table = table(&["tensor", "layers before it"], &["bits", "alone", "accumulated"]);
    for error in errors.iter().take(RANKED) {
        let layers: Vec<&str> = error.layers.iter().map(String::as_str).collect();
        add_row(
            &mut table,
            [
                end_of(&error.tensor),
                end_of(&some_of(&layers)),
                error.bits.map_or_else(dash, |b| b.to_string()),
                format!("{:.4}", error.local),
                format!("{:.4}", error.accumulated),
            ],
        );
    }
    with_rest(&table, errors.len(), RANKED)
}

fn saturation(saturated: &[&Saturation]) -> String {
    let mut table = table(&["layer"], &["saturated sums", "wrong results", "largest error", "relative RMS"]);
    for layer in saturated.iter().take(RANKED) {
        let wrong = 100.0 * layer.wrong_results as f64 / layer.results.max(1) as f64;
        add_row(
            &mut table,
            [
                layer.layer.clone(),
                layer.saturated.to_string(),
                format!("{wrong:.3} %"),
                format!("{:.4}", layer.largest_error),
                format!("{:.4}", layer.relative_rms),
            ],
        );
    }
    with_rest(&table, saturated.len(), RANKED)
}
