//! The inputs of a model as text.

use super::Warning;
use crate::data::InputKind;
use crate::plan::{Cause, Plan};
use crate::stats::{InputScale, InputSource, InputStatistics, KnownInput};

/// Returns range, scale and source of images or features.
pub(super) fn input(input: &InputStatistics) -> String {
    let scale = match input.scale {
        InputScale::Normalised => "normalized",
        InputScale::Unit | InputScale::SignedUnit => "scaled pixels",
        InputScale::Raw => "raw pixels",
        InputScale::Custom => "an interval",
        InputScale::Preprocessed => "preprocessed pixels",
    };
    format!("{:.3} to {:.3} ({scale}, {})", input.lo, input.hi, source(input.source))
}

/// Returns kind, range and source of every input.
pub(super) fn inputs(known: &[KnownInput]) -> String {
    let one = |known: &KnownInput| {
        let range = match (known.kind, known.range) {
            (InputKind::TokenIds { vocabulary }, _) => format!(" below {vocabulary}"),
            (InputKind::Setting { value }, _) => format!(" of {value}"),
            (InputKind::Mask, _) | (_, None) => String::new(),
            (_, Some([lo, hi])) => format!(" from {lo:.3} to {hi:.3}"),
        };
        format!("\"{}\": {}{range} ({})", known.name, known.kind.name(), source(known.source))
    };
    known.iter().map(one).collect::<Vec<_>>().join("; ")
}

fn source(source: InputSource) -> &'static str {
    match source {
        InputSource::Given => "given",
        InputSource::FirstLayer => "from the first layer's statistics",
        InputSource::Bytes => "bytes",
        InputSource::Data => "from the inputs given",
        InputSource::Graph => "from the graph",
        InputSource::Assumed => "a guess: the file does not tell",
    }
}

/// Returns the warning about inputs whose range is a guess, and its effect on `plan`.
pub(super) fn guess(known: &[KnownInput], statistics: &InputStatistics, plan: &Plan) -> Option<Warning> {
    let guesses = || known.iter().filter(|known| known.is_guess);
    guesses().next()?;
    let named = |is: fn(InputKind) -> bool| -> Option<String> {
        let named = guesses().filter(|known| is(known.kind));
        let named: Vec<String> = named.map(|known| format!("\"{}\" ({})", known.name, known.kind.name())).collect();
        (!named.is_empty()).then(|| named.join(", "))
    };
    let is_ids = |kind| matches!(kind, InputKind::TokenIds { .. });
    let is_scaled = |kind| matches!(kind, InputKind::Image { .. } | InputKind::Features);
    let scaled = named(is_scaled)
        .map(|names| format!("the range of {names}: {} to {} is a guess", statistics.lo, statistics.hi));
    let states = named(|kind| kind == InputKind::State).map(|names| format!("the range of {names}"));
    let is_setting = |kind| matches!(kind, InputKind::Setting { .. });
    let settings = named(is_setting).map(|names| format!("the value of {names}"));
    let ids = named(is_ids).map(|names| format!("the frequency of ids in {names}"));
    let mut cures = vec!["--data FILE"];
    cures.extend(scaled.is_some().then_some("--input-range LO:HI"));
    cures.extend(named(|kind| matches!(kind, InputKind::Image { .. })).map(|_| "--mean and --std"));
    cures.extend(settings.is_some().then_some("--set-input NAME=VALUE"));
    Some(Warning::InputGuessed {
        unknown: ids.into_iter().chain(settings).chain(states).chain(scaled).collect(),
        float_inputs: plan.float.iter().filter(|float| float.cause == Cause::FloatInput).count(),
        layers: plan.layers.len(),
        cures: cures.join(" or "),
    })
}
