//! The report as text for a terminal.

use std::collections::BTreeMap;
use std::fmt::Write;

use comfy_table::{Cell, CellAlignment, Table, presets};

use super::{LayerCost, Report, render_audit, render_auto_bits, render_sensitivity};
use crate::layers::Step;
use crate::plan::ContainerChoice;
use crate::verify::{Check, Saturation, TensorError, Verification};

/// Rows of the ranked tables.
const RANKED: usize = 8;

/// Returns the report as tables: layers, checks, the worst layers, accuracy where labels were given, warnings.
pub fn render(report: &Report) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{} -> {}", report.model.display(), output(report));
    let _ = writeln!(out, "recipe {}, seed {}, engines: {}\n", report.recipe, report.seed, report.engines.join(", "));
    let _ = writeln!(out, "{}\n", layers(&report.layers));
    let _ = writeln!(out, "{}", facts(report));
    let _ = writeln!(out, "\n{}", render_audit(&report.audit, RANKED));
    if let Some(auto_bits) = &report.auto_bits {
        let _ = writeln!(out, "\n{}", render_auto_bits(auto_bits));
    }
    if let Some(sensitivity) = &report.sensitivity {
        let _ = writeln!(out, "\n{}", render_sensitivity(sensitivity));
    }
    if let Some(verification) = &report.verification {
        let _ = writeln!(out, "\n{}", render_verification(verification));
    }
    if let Some(comparison) = &report.evaluation {
        let [float, quantized, agreement] = comparison.percentages();
        let _ = writeln!(
            out,
            "\naccuracy (top-1) on {} labelled images of {}\n  float      {float:6.2} %  ({} right)\n  quantized  \
             {quantized:6.2} %  ({} right)\n  both models say the same class on {agreement:.2} %",
            comparison.images,
            comparison.data.display(),
            comparison.float_correct,
            comparison.quantized_correct,
        );
    }
    for warning in &report.warnings {
        let _ = writeln!(out, "\nwarning: {warning}");
    }
    out.trim_end().to_owned() + "\n"
}

/// Returns a verification as tables: hard checks, thresholds, outputs and the layers with the largest own error.
pub fn render_verification(verification: &Verification) -> String {
    let mut out = String::new();
    let inputs = if verification.synthetic_inputs { "synthetic inputs" } else { "given inputs" };
    let _ = writeln!(out, "checks on {} {inputs}", verification.samples);
    let _ = writeln!(out, "{}", checks(verification.checks.iter().chain(&verification.gates)));
    let _ = writeln!(out, "\nagreement with the float model (this is not accuracy)");
    let mut table = table(&["output", "SQNR dB", "cosine", "max error", "same top-1"]);
    for output in &verification.outputs {
        let top1 = output.top1_agreement.map_or("-".to_owned(), |share| format!("{:.1} %", 100.0 * share));
        table.add_row(numbers(
            &output.output,
            match output.labels {
                true => ["-".to_owned(), "-".to_owned(), "-".to_owned(), top1],
                false => [
                    format!("{:.1}", output.sqnr_db),
                    format!("{:.5}", output.cosine),
                    format!("{:.4}", output.max_abs),
                    top1,
                ],
            },
        ));
    }
    let _ = writeln!(out, "{table}");
    if !verification.blame.is_empty() {
        let _ =
            writeln!(out, "\nlayers by the error that they add alone (relative RMS)\n{}", blame(&verification.blame));
    }
    let saturated = verification.saturation.iter().filter(|s| s.saturated > 0);
    let mut saturated: Vec<&Saturation> = saturated.collect();
    saturated.sort_by(|a, b| b.relative_rms.total_cmp(&a.relative_rms));
    if !saturated.is_empty() {
        let _ = writeln!(
            out,
            "\nlayers that would go wrong in integer kernels of x86 without VNNI\n{}",
            saturation(&saturated)
        );
    }
    for note in &verification.notes {
        let _ = writeln!(out, "note: {note}");
    }
    out.trim_end().to_owned()
}

fn output(report: &Report) -> String {
    match &report.output {
        Some(path) => path.display().to_string(),
        None => "(nothing written)".to_owned(),
    }
}

pub(super) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.to_vec());
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

pub(super) fn numbers<const N: usize>(name: &str, values: [String; N]) -> Vec<Cell> {
    std::iter::once(Cell::new(name).set_alignment(CellAlignment::Left))
        .chain(values.into_iter().map(Cell::new))
        .collect()
}

fn layers(costs: &[LayerCost]) -> Table {
    let mut table = table(&["layer", "op", "weight", "input", "bytes", "MMAC", "weight SQNR dB"]);
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    for cost in costs {
        #[allow(clippy::cast_precision_loss)]
        let mega = cost.macs.map(|n| format!("{:.2}", n as f64 / 1e6));
        table.add_row(numbers(
            &cost.name,
            [
                cost.op_type.clone(),
                or_dash(cost.weight_bits.map(|b| format!("{b} bit"))),
                cost.input_bits.map_or("float".to_owned(), |b| format!("{b} bit")),
                or_dash(cost.weight_bytes.map(|b| format!("{} -> {}", b.float, b.quantized))),
                or_dash(mega),
                or_dash(cost.weight_sqnr.map(|db| format!("{db:.1}"))),
            ],
        ));
    }
    table
}

#[allow(clippy::cast_precision_loss)]
fn facts(report: &Report) -> String {
    let from_statistics =
        report.ranges.iter().filter(|r| matches!(r.source, crate::recipes::RangeSource::Statistics)).count();
    let observed =
        report.ranges.iter().filter(|r| matches!(r.source, crate::recipes::RangeSource::SyntheticInputs)).count();
    let input = &report.input;
    let mut lines = vec![
        format!(
            "size      {} -> {} bytes ({:.2}x smaller)",
            report.bytes.float,
            report.bytes.quantized,
            report.bytes.float as f64 / report.bytes.quantized.max(1) as f64
        ),
        format!(
            "ranges    {from_statistics} from batch-normalisation statistics, {observed} from synthetic inputs, input \
             {:.3} to {:.3} ({:?}, {:?})",
            input.lo, input.hi, input.scale, input.source
        ),
    ];
    lines.extend(container(&report.container));
    lines.extend(steps(&report.steps));
    let stays: Vec<String> =
        report.plan.float.iter().map(|f| format!("{} ({}; {})", f.name, f.op_type, f.reason)).collect();
    lines.push(format!(
        "float     {}",
        if stays.is_empty() { "nothing".to_owned() } else { stays.join("\n          ") }
    ));
    lines.join("\n")
}

/// What weights of 4 bits and below are stored in; nothing where there are none.
fn container(choice: &ContainerChoice) -> Option<String> {
    let stored = match (choice.packed, choice.unpacked) {
        (0, 0) => return None,
        (_, 0) => "int4".to_owned(),
        (0, _) => "int8".to_owned(),
        (packed, unpacked) => format!("int4 for {packed} weights of 4 bits and below, int8 for {unpacked}"),
    };
    let other = match choice.bytes_int4 == choice.bytes_int8 {
        true => String::new(),
        false => format!("; all in int8 {} bytes, int4 where it can be {}", choice.bytes_int8, choice.bytes_int4),
    };
    Some(format!("container {stored} ({}); weights take {} bytes{other}", choice.reason, choice.bytes))
}

/// One line a step: at how many layers it was applied, and the reasons where it was not.
fn steps(steps: &[Step]) -> Vec<String> {
    let mut names: Vec<&str> = steps.iter().map(|s| s.step).collect();
    names.dedup();
    let line = |name: &&str| {
        let all: Vec<&Step> = steps.iter().filter(|s| s.step == *name).collect();
        let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
        all.iter().filter_map(|s| s.refused.as_deref()).for_each(|reason| *reasons.entry(reason).or_default() += 1);
        let not: usize = reasons.values().sum();
        let why: Vec<String> = reasons.iter().map(|(reason, n)| format!("{n}: {reason}")).collect();
        let why = if why.is_empty() { String::new() } else { format!(" ({})", why.join("; ")) };
        format!("{name:<9} {} layer(s), not at {not}{why}", all.len() - not)
    };
    names.iter().map(line).collect()
}

fn checks<'a>(checks: impl Iterator<Item = &'a Check>) -> Table {
    let mut table = table(&["check", "engine", "measured", "limit", "verdict", ""]);
    let number = |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{v:.4}"));
    for check in checks {
        let verdict = if check.passed { "ok" } else { "FAILED" };
        // Near ties are granted, so an agreement below its limit may pass; the message says why.
        let near_ties = check.name.contains("top-1") && check.measured < check.limit;
        let message = if check.passed && !near_ties { String::new() } else { check.message.clone() };
        table.add_row(numbers(
            &check.name,
            [check.engine.clone(), number(check.measured), number(check.limit), verdict.to_owned(), message],
        ));
    }
    table
}

#[allow(clippy::cast_precision_loss)]
fn saturation(saturated: &[&Saturation]) -> Table {
    let mut table = table(&["layer", "saturated sums", "wrong results", "largest error", "relative RMS"]);
    for layer in saturated.iter().take(RANKED) {
        let wrong = 100.0 * layer.wrong_results as f64 / layer.results.max(1) as f64;
        table.add_row(numbers(
            &layer.layer,
            [
                layer.saturated.to_string(),
                format!("{wrong:.3} %"),
                format!("{:.4}", layer.largest_error),
                format!("{:.4}", layer.relative_rms),
            ],
        ));
    }
    table
}

fn blame(errors: &[TensorError]) -> Table {
    let mut table = table(&["tensor", "layers before it", "bits", "own", "accumulated"]);
    for error in errors.iter().take(RANKED) {
        table.add_row(numbers(
            &error.tensor,
            [
                error.layers.join(", "),
                error.bits.map_or("-".to_owned(), |b| b.to_string()),
                format!("{:.4}", error.local),
                format!("{:.4}", error.accumulated),
            ],
        ));
    }
    table
}
