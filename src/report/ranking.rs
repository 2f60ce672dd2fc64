//! The ranking of layers by sensitivity and the choice of bits, as data and as text.

use std::path::PathBuf;

use serde::Serialize;

use super::layout::{add_row, dash, line, paragraph, some_of, table};
use super::text::with_rest;
use super::verification::RANKED;
use crate::sensitivity::{AutoBits, Cost, Measure, Sensitivity, Share};
use crate::stats::InputStatistics;

/// The least difference in bits between stored and chosen weights that is reported.
const WORTH_A_WORD: f64 = 0.05;

/// The share of the whole cost below which the recipe's own floating-point changes are not shown.
const NEGLIGIBLE: f64 = 0.001;

/// Layers that flags are given for by default.
const FLAGGED: usize = 3;

/// The report of `sensitivity`.
#[derive(Clone, Debug, Serialize)]
pub struct Ranking {
    /// [`super::SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Name and version of this program.
    pub tool: String,
    /// The float model.
    #[serde(serialize_with = "crate::shown::path")]
    pub model: PathBuf,
    /// The recipe's name.
    pub recipe: &'static str,
    /// The seed of all random numbers.
    pub seed: u64,
    /// The engine.
    pub engine: String,
    /// The network's input.
    pub input: InputStatistics,
    /// The ranking.
    pub sensitivity: Sensitivity,
    /// Flags of `quantize` that give the first layers of the ranking more bits, or leave them float.
    pub flags: Vec<String>,
    /// Stage and seconds.
    pub seconds: Vec<(&'static str, f64)>,
}

impl Ranking {
    /// Returns the first `top` rows of the ranking, all where no number is given, with flags for their layers; without a
    /// number for the first few.
    pub fn of_first(mut self, top: Option<usize>) -> Self {
        self.sensitivity.shares.truncate(top.unwrap_or(usize::MAX));
        // Grids that only other operators read have no flags, and where nothing is saved none are wanted.
        let layers = self.sensitivity.shares.iter().filter(|share| share.output.is_some() && share.gain > 0.0);
        self.flags = layers.take(top.unwrap_or(FLAGGED)).map(flag).collect();
        self
    }
}

/// Returns the flag that gives a layer of fewer than 8 bits 8, and leaves others float.
fn flag(share: &Share) -> String {
    let is_low = share.weight_bits.into_iter().chain(share.input_bits).any(|bits| bits < 8);
    match is_low {
        true => format!("--layer-bits {}", quoted(&format!("{}=8", share.name))),
        false => format!("--exclude {}", quoted(&share.name)),
    }
}

/// Returns an argument quoted for a shell.
fn quoted(argument: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_./:=@%+,-".contains(c);
    if argument.chars().all(is_plain) { argument.to_owned() } else { format!("'{}'", argument.replace('\'', "'\\''")) }
}

/// Returns the ranking as text, with flags to paste at its end.
pub fn render_ranking(ranking: &Ranking) -> String {
    let flags = match ranking.flags.as_slice() {
        [] => String::new(),
        flags => format!("\n\nflags that spare the first {} layers: {}", flags.len(), line(&flags.join(" "))),
    };
    format!(
        "{}\nrecipe {}, seed {}, engine: {}\n\n{}{flags}",
        ranking.model.display(),
        ranking.recipe,
        ranking.seed,
        ranking.engine,
        render_sensitivity(&ranking.sensitivity)
    )
}

/// Returns the table of layers, ranked by the cost saved where they stay float.
fn render_sensitivity(sensitivity: &Sensitivity) -> String {
    let mut header = vec!["rank", "if float", "bits", "alone", "weight", "input", "dB"];
    if sensitivity.shares.iter().any(|share| share.accuracy.is_some()) {
        header.extend(["top-1 alone", "if float"]);
    }
    let mut table = table(&["layer"], &header);
    for share in &sensitivity.shares {
        let mut row = vec![
            share.name.clone(),
            share.gain_rank.to_string(),
            short(share.gain),
            bits(share),
            short(share.alone.cost),
            share.weight_alone.map_or_else(dash, |cost| short(cost.cost)),
            share.input_alone.map_or_else(dash, |cost| short(cost.cost)),
            format!("{:.1}", share.alone.sqnr_db),
        ];
        if let Some(accuracy) = share.accuracy {
            row.extend([accuracy.alone, accuracy.left_float].map(|share| format!("{:.2} %", 100.0 * share)));
        }
        add_row(&mut table, row);
    }
    format!("{}\n\n{}", whole(sensitivity), table.trim_fmt())
}

/// Returns the first layers of the ranking, for the report of a run.
pub(super) fn summary_of(sensitivity: &Sensitivity) -> String {
    let mut table = table(&["layer"], &["rank", "if float", "bits", "alone", "dB"]);
    for share in sensitivity.shares.iter().take(RANKED) {
        add_row(
            &mut table,
            [
                share.name.clone(),
                share.gain_rank.to_string(),
                short(share.gain),
                bits(share),
                short(share.alone.cost),
                format!("{:.1}", share.alone.sqnr_db),
            ],
        );
    }
    format!("{}\n{}", whole(sensitivity), with_rest(&table, sensitivity.shares.len(), RANKED))
}

fn whole(sensitivity: &Sensitivity) -> String {
    let measure = match sensitivity.measure {
        Measure::ClassDivergence => "divergence of class probabilities, nats",
        Measure::NoiseToSignal => "noise over signal power of the outputs",
    };
    let cost = |cost: &Cost| {
        let top1 = cost.top1_agreement.map_or(String::new(), |share| format!(", same top-1 on {:.1} %", 100.0 * share));
        format!("{}, SQNR {:.1} dB{top1}", short(cost.cost), cost.sqnr_db)
    };
    let samples = sensitivity.samples;
    let mut lines = vec![
        format!("cost of quantization: {measure} ({samples} synthetic inputs; not accuracy)"),
        "ranked by the cost saved if one layer stays float; alone: one layer quantized (cost, SQNR in dB)".to_owned(),
        format!("everything quantized: {}", cost(&sensitivity.quantized)),
    ];
    if sensitivity.float.cost > NEGLIGIBLE * sensitivity.quantized.cost {
        lines.push(format!("nothing quantized (the recipe's own changes): {}", cost(&sensitivity.float)));
    }
    lines.join("\n")
}

fn bits(share: &Share) -> String {
    let weight = share.weight_bits.map_or(String::new(), |bits| format!("w{bits}"));
    format!("{weight}{}", share.input_bits.map_or(String::new(), |bits| format!("a{bits}")))
}

/// Returns the chosen bits, and the flags that give them again.
pub fn render_auto_bits(auto_bits: &AutoBits) -> String {
    let text = format!(
        "{:.4} bits on average over weight elements, at most {} requested ({:.2} to {:.2} possible)",
        auto_bits.average, auto_bits.asked, auto_bits.reachable.0, auto_bits.reachable.1
    );
    let mut lines = vec![paragraph("chosen", &text)];
    if auto_bits.stored > auto_bits.average + WORTH_A_WORD {
        let text = format!(
            "{:.2} bits on average, since a file stores integers in 4 or 8 bits; with --target onnx, --bit-candidates 4,8 \
             chooses among these",
            auto_bits.stored
        );
        lines.push(paragraph("stored", &text));
    }
    let widths: Vec<u32> =
        auto_bits.weights.iter().find(|w| !w.fixed).map_or(Vec::new(), |w| w.costs.iter().map(|c| c.bits).collect());
    let columns: Vec<String> = widths.iter().map(|width| format!("cost w{width}")).collect();
    let header: Vec<&str> = ["elements", "bits"].into_iter().chain(columns.iter().map(String::as_str)).collect();
    let mut table = table(&["layer"], &header);
    for weight in &auto_bits.weights {
        let names: Vec<&str> = weight.layers.iter().map(String::as_str).collect();
        let bits = if weight.fixed { format!("{} (fixed)", weight.bits) } else { weight.bits.to_string() };
        let mut row = vec![some_of(&names), weight.elements.to_string(), bits];
        row.extend(weight.costs.iter().map(|width| short(width.cost)));
        row.resize(header.len() + 1, String::new());
        add_row(&mut table, row);
    }
    lines.push(table.trim_fmt());
    lines.push(line(&format!("flags for the same bits, in place of --auto-bits: {}", auto_bits.flags.join(" "))));
    lines.join("\n")
}

/// Returns a cost in three digits.
fn short(cost: f64) -> String {
    match cost.abs() {
        0.0 => "0".to_owned(),
        size if (0.001..1000.0).contains(&size) => format!("{cost:.4}"),
        _ => format!("{cost:.2e}"),
    }
}
