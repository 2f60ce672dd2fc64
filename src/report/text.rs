//! The report as text for a terminal.

use std::collections::BTreeMap;

use comfy_table::Table;

use super::coverage::audit_lines;
use super::inputs::inputs;
use super::layout::{add_row, dash, grouped, millions, paragraph, some_of, table};
use super::ranking::summary_of;
use super::synthesis::asked;
use super::{LayerCost, Report, render_auto_bits, render_judgement, render_verification};
use crate::layers::LayerStep;
use crate::plan::{ContainerChoice, Float};
use crate::solution::RangeSource;
use crate::synthesis::SynthesisReport;
use crate::train::{Disagreement, HeldOut, OtherKind, StageReport};

/// Rows of the table of layers.
const LAYERS: usize = 40;

/// Returns the report as text: layers, decisions, checks, the worst layers, accuracy if measured, warnings.
pub fn render(report: &Report) -> String {
    let output = report.output.as_ref().map_or("(nothing written)".to_owned(), |path| path.display().to_string());
    let warnings = |is_first: bool| -> Vec<String> {
        let warnings = report.warnings.iter().filter(|warning| warning.is_first() == is_first);
        warnings.map(|warning| paragraph("warning:", &warning.to_string())).collect()
    };
    let mut parts = vec![format!(
        "{} -> {output}\nrecipe {}, seed {}, engines: {}",
        report.model.display(),
        report.recipe,
        report.seed,
        report.engines.join(", ")
    )];
    parts.extend(warnings(true));
    parts.extend([layers(&report.layers), facts(report)]);
    parts.extend(report.auto_bits.as_ref().map(render_auto_bits));
    parts.extend(report.sensitivity.as_ref().map(summary_of));
    parts.extend(report.verification.as_ref().map(render_verification));
    parts.extend(accuracy(report));
    parts.push(warnings(false).join("\n"));
    parts.extend(report.judgement.as_ref().map(render_judgement));
    parts.retain(|part| !part.is_empty());
    parts.join("\n\n").trim_end().to_owned() + "\n"
}

fn layers(costs: &[LayerCost]) -> String {
    let mut table = table(&["layer", "op"], &["bits", "bytes", "MMAC", "weight SQNR dB"]);
    for cost in costs.iter().take(LAYERS) {
        let weight = cost.weight_bits.map_or(String::new(), |bits| format!("w{bits}"));
        let input = cost.input_bits.map_or(" (float input)".to_owned(), |bits| format!("a{bits}"));
        add_row(
            &mut table,
            [
                cost.name.clone(),
                cost.op_type.clone(),
                weight + &input,
                cost.weight_bytes.map_or_else(dash, |b| format!("{} -> {}", b.float, b.quantized)),
                millions(cost.macs),
                cost.weight_sqnr.map_or_else(dash, |db| format!("{db:.1}")),
            ],
        );
    }
    with_rest(&table, costs.len(), LAYERS)
}

/// Returns the table, and how many rows it leaves to JSON.
pub(super) fn with_rest(table: &Table, all: usize, shown: usize) -> String {
    match all.checked_sub(shown) {
        None | Some(0) => table.trim_fmt(),
        Some(more) => format!("{}\nand {more} more; --format json lists all", table.trim_fmt()),
    }
}

fn facts(report: &Report) -> String {
    let count = |source: RangeSource| report.ranges.iter().filter(|range| range.source == source).count();
    let [told, observed, trained] =
        [RangeSource::Statistics, RangeSource::SyntheticInputs, RangeSource::Trained].map(count);
    let observed_from = if report.data.is_some() { "the inputs given" } else { "synthetic inputs" };
    let ranges = match trained {
        0 => format!("{told} from batch-normalization statistics, {observed} from {observed_from}"),
        all => format!("{all} trained"),
    };
    let mut lines = vec![
        paragraph("size", &size(report)),
        paragraph("ranges", &ranges),
        paragraph("input", &inputs(&report.inputs)),
    ];
    lines.extend(report.data.as_ref().map(|data| {
        let purpose = if report.training.is_empty() { "ranges" } else { "ranges and training" };
        let [seen, held_out] = [data.samples - data.held_out, data.held_out];
        let text = format!("{seen} inputs of {} used for {purpose}, {held_out} held out", data.file.display());
        paragraph("data", &text)
    }));
    lines.extend(report.synthesis.as_ref().map(|images| paragraph("images", &images_of(images))));
    let untrained =
        |figures: &String| paragraph("training", &format!("not needed: the result without it is good, {figures}"));
    lines.extend(report.sufficient.as_ref().map(untrained));
    lines.extend(report.training.iter().map(|stage| paragraph(stage.stage, &stage_of(stage))));
    let descents = report.training.iter().flat_map(|stage| &stage.descents);
    let apart = descents.filter_map(|descent| descent.disagreement.as_ref());
    lines.extend(apart.map(|found| paragraph("students", &disagreement(found))));
    let against = |found| paragraph("end", &format!("compared with quantization without images: {}", judged(found)));
    lines.extend(report.against_start.as_ref().map(against));
    lines.extend(container(&report.container));
    lines.extend(steps(&report.steps));
    lines.extend(float(&report.plan.float));
    lines.extend(audit_lines(&report.audit, &report.plan));
    lines.join("\n")
}

/// Returns the number of synthesized images and of the steps.
fn images_of(images: &SynthesisReport) -> String {
    let is_made = !images.generators.is_empty();
    let ended = if is_made { cut(images.steps()) } else { "; not generated".to_owned() };
    asked(images) + &ended
}

/// Returns a note where time was up before all steps were done.
fn cut([done, planned]: [u64; 2]) -> String {
    if done < planned { format!("; time was up after {done} of {planned} steps in all") } else { String::new() }
}

/// Returns the length of a training stage and its result.
fn stage_of(stage: &StageReport) -> String {
    let StageReport { samples, leaves, descents, held_out, .. } = stage;
    let Some(first) = descents.first() else { return "nothing to train".to_owned() };
    let blocks = match descents.len() {
        1 => String::new(),
        blocks => format!(" in each of {blocks} blocks"),
    };
    let inputs = match (samples, leaves) {
        (0, 0) => " generated images".to_owned(),
        (_, 0) => format!(" out of {samples} inputs"),
        _ => format!(" out of {samples} inputs and {leaves} dead leaves"),
    };
    let (steps, batch, rate) = (first.planned_steps, first.batch, first.learning_rate);
    let bytes = descents.iter().map(|descent| descent.step_bytes).max().unwrap_or(0).div_ceil(1_000_000);
    let text = format!("{steps} steps of {batch}{inputs}{blocks}, learning rate {rate}, about {bytes} MB per step");
    let Some(held_out) = held_out else { return format!("{text}; not run") };
    format!("{text}{}; {}", cut(stage.steps()), judged(held_out))
}

/// Returns how far the students of a game disagree.
fn disagreement(found: &Disagreement) -> String {
    let Disagreement { students, images, top1, distance } = found;
    let classes = top1.map_or(String::new(), |share| format!("top-1 differs on {:.1} %, ", 100.0 * share));
    format!(
        "{students} students on {images} held-out inputs, mean over pairs: {classes}normalized distance {distance:.4}"
    )
}

/// Returns the measurements on held-out inputs.
fn judged(held_out: &HeldOut) -> String {
    let HeldOut { images, distance, agreement, other_kinds, .. } = held_out;
    let agreed = agreement.map_or(String::new(), |[before, after]| {
        format!(", agreement {:.1} -> {:.1} %", 100.0 * before, 100.0 * after)
    });
    let kind = |other: &OtherKind| format!("{} {:.1} -> {:.1}", other.kind, other.sqnr_db[0], other.sqnr_db[1]);
    let others: Vec<String> = other_kinds.iter().map(kind).collect();
    let others = match others.is_empty() {
        true => String::new(),
        false => format!("; SQNR of the last features on other kinds of images, dB: {}", others.join(", ")),
    };
    let kept = held_out.refused().map_or("kept".to_owned(), |reason| format!("not kept: {reason}"));
    format!("on {images} held-out inputs: distance {:.4} -> {:.4}{agreed}{others}; {kept}", distance[0], distance[1])
}

fn size(report: &Report) -> String {
    let bytes = report.bytes;
    match bytes.quantized {
        0 => format!("{} bytes before", bytes.float),
        quantized => {
            format!("{} -> {quantized} bytes ({:.2}x smaller)", bytes.float, bytes.float as f64 / quantized as f64)
        }
    }
}

/// Returns the storage type of weights of 4 bits and below, if there are any.
fn container(choice: &ContainerChoice) -> Option<String> {
    let stored = match (choice.packed, choice.unpacked) {
        (0, 0) => return None,
        (_, 0) => "int4".to_owned(),
        (0, _) => "int8".to_owned(),
        (packed, unpacked) => format!("int4 for {packed} weights of 4 bits and below, int8 for {unpacked}"),
    };
    let other = match choice.bytes_int4 == choice.bytes_int8 {
        true => String::new(),
        false => {
            format!("; {} bytes with int8 alone, {} with int4 where possible", choice.bytes_int8, choice.bytes_int4)
        }
    };
    let text = format!("{stored} ({}); weights take {} bytes{other}", choice.reason, choice.bytes);
    Some(paragraph("container", &text))
}

/// Returns one paragraph per step: the number of layers that it was applied to, and the reasons why not to others.
fn steps(steps: &[LayerStep]) -> Vec<String> {
    let mut names: Vec<&str> = steps.iter().map(|s| s.step).collect();
    names.dedup();
    let line = |name: &&str| {
        let all: Vec<&LayerStep> = steps.iter().filter(|s| s.step == *name).collect();
        let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
        all.iter().filter_map(|s| s.refused.as_deref()).for_each(|reason| *reasons.entry(reason).or_default() += 1);
        let not: usize = reasons.values().sum();
        let why: Vec<String> = reasons.iter().map(|(reason, n)| format!("{n}: {reason}")).collect();
        let why = if not == 0 { String::new() } else { format!(", not at {not} ({})", why.join("; ")) };
        paragraph(name, &format!("{} layer(s){why}", all.len() - not))
    };
    names.iter().map(line).collect()
}

/// Returns one paragraph per reason.
fn float(stays: &[Float]) -> Vec<String> {
    let groups = grouped(stays.iter().map(|f| (f.name.as_str(), (f.is_layer(), f.reason.as_str()))));
    if groups.is_empty() {
        return vec![paragraph("in float", "nothing")];
    }
    let paragraphs = groups.iter().enumerate().map(|(i, ((is_layer, reason), names))| {
        let what = if *is_layer { "layer " } else { "" };
        paragraph(if i == 0 { "in float" } else { "" }, &format!("{what}{}: {reason}", some_of(names)))
    });
    paragraphs.collect()
}

fn accuracy(report: &Report) -> Option<String> {
    let comparison = report.evaluation.as_ref()?;
    let [float, quantized, agreement] = comparison.percentages();
    Some(format!(
        "accuracy (top-1) on {} labeled images of {}\n  float      {float:6.2} %  ({} right)\n  quantized  \
         {quantized:6.2} %  ({} right)\n  both predict the same class on {agreement:.2} %",
        comparison.images,
        comparison.data.display(),
        comparison.float_correct,
        comparison.quantized_correct,
    ))
}
