//! The layers ranked by what quantizing them costs, and how bits were chosen, as data and as text.

use std::fmt::Write;
use std::path::PathBuf;

use serde::Serialize;

use super::table::{numbers, table};
use crate::sensitivity::{AutoBits, Cost, Measure, Sensitivity};
use crate::stats::InputStatistics;

/// Bits by which what is stored exceeds what was chosen.
const WORTH_A_WORD: f64 = 0.05;

/// Share of the whole cost below which what the recipe changed in floating point is not shown.
const NEGLIGIBLE: f64 = 0.001;

/// The report of `sensitivity`.
#[derive(Clone, Debug, Serialize)]
pub struct Ranking {
    /// [`super::SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Name and version of this program.
    pub tool: String,
    /// The float model.
    pub model: PathBuf,
    /// The recipe's name.
    pub recipe: &'static str,
    /// Everything random follows from it.
    pub seed: u64,
    /// What ran the graphs.
    pub engine: String,
    /// The network's input.
    pub input: InputStatistics,
    /// The ranking.
    pub sensitivity: Sensitivity,
    /// Stage and seconds.
    pub seconds: Vec<(&'static str, f64)>,
}

/// Returns the ranking as text.
pub fn render_ranking(ranking: &Ranking) -> String {
    format!(
        "{}\nrecipe {}, seed {}, engine: {}\n\n{}",
        ranking.model.display(),
        ranking.recipe,
        ranking.seed,
        ranking.engine,
        render_sensitivity(&ranking.sensitivity)
    )
}

/// Returns the table of layers, the most expensive first.
pub fn render_sensitivity(sensitivity: &Sensitivity) -> String {
    let mut out = String::new();
    let measure = match sensitivity.measure {
        Measure::ClassDivergence => "divergence of class probabilities, nats",
        Measure::NoiseToSignal => "noise over signal power of the outputs",
    };
    let _ = writeln!(
        out,
        "what quantization costs ({measure}; {} synthetic inputs, this is not accuracy)",
        sensitivity.samples
    );
    let whole = |cost: &Cost| {
        let top1 = cost.top1_agreement.map_or(String::new(), |share| format!(", same top-1 on {:.1} %", 100.0 * share));
        format!("{}, SQNR {:.1} dB{top1}", short(cost.cost), cost.sqnr_db)
    };
    let _ = writeln!(out, "everything quantized: {}", whole(&sensitivity.quantized));
    if sensitivity.float.cost > NEGLIGIBLE * sensitivity.quantized.cost {
        let _ = writeln!(out, "nothing quantized (the recipe's own changes): {}", whole(&sensitivity.float));
    }
    let _ = writeln!(out);
    let mut header = vec!["layer", "op", "bits", "alone", "weight", "input", "dB alone", "saved when float", "(rank)"];
    let labelled = sensitivity.shares.iter().any(|share| share.accuracy.is_some());
    if labelled {
        header.extend(["top-1 alone", "top-1 without"]);
    }
    let mut table = table(&header);
    for share in &sensitivity.shares {
        let bits = share.weight_bits.map_or(String::new(), |bits| format!("w{bits}"));
        let mut row = numbers(
            &share.name,
            [
                share.op_type.clone(),
                format!("{bits}{}", share.input_bits.map_or(String::new(), |bits| format!("a{bits}"))),
                short(share.alone.cost),
                share.weight_alone.map_or("-".to_owned(), |cost| short(cost.cost)),
                share.input_alone.map_or("-".to_owned(), |cost| short(cost.cost)),
                format!("{:.1}", share.alone.sqnr_db),
                short(share.gain),
                share.gain_rank.to_string(),
            ],
        );
        if let Some(accuracy) = share.accuracy {
            let percent = [accuracy.alone, accuracy.left_float].map(|share| format!("{:.2} %", 100.0 * share));
            row.extend(percent.map(comfy_table::Cell::new));
        }
        table.add_row(row);
    }
    let _ = writeln!(out, "{table}");
    out.trim_end().to_owned()
}

/// Returns the chosen bits, and the flags that give them again.
pub fn render_auto_bits(auto_bits: &AutoBits) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "bits chosen: {:.4} on average over weight elements, at most {} asked for ({:.2} to {:.2} can be had)",
        auto_bits.average, auto_bits.asked, auto_bits.reachable.0, auto_bits.reachable.1
    );
    if auto_bits.stored > auto_bits.average + WORTH_A_WORD {
        let _ = writeln!(
            out,
            "stored: {:.2} bits on average, since a file holds integers in 4 or 8 bits; with --target onnx, \
             --bit-candidates 4,8 chooses among what is stored",
            auto_bits.stored
        );
    }
    let widths: Vec<u32> =
        auto_bits.weights.iter().find(|w| !w.fixed).map_or(Vec::new(), |w| w.costs.iter().map(|c| c.bits).collect());
    let columns: Vec<String> = widths.iter().map(|width| format!("cost w{width}")).collect();
    let header: Vec<&str> =
        ["layer", "elements", "bits"].into_iter().chain(columns.iter().map(String::as_str)).collect();
    let mut table = table(&header);
    for weight in &auto_bits.weights {
        let bits = if weight.fixed { format!("{} (fixed)", weight.bits) } else { weight.bits.to_string() };
        let mut row = numbers(&weight.layers.join(", "), [weight.elements.to_string(), bits]);
        row.extend(weight.costs.iter().map(|width| comfy_table::Cell::new(short(width.cost))));
        table.add_row(row);
    }
    let _ = writeln!(out, "{table}\nthe same again, in place of --auto-bits: {}", auto_bits.flags.join(" "));
    out.trim_end().to_owned()
}

/// Returns a cost in three digits.
fn short(cost: f64) -> String {
    match cost.abs() {
        0.0 => "0".to_owned(),
        size if (0.001..1000.0).contains(&size) => format!("{cost:.4}"),
        _ => format!("{cost:.2e}"),
    }
}
