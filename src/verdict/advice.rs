//! Advice after a verdict.

use super::{Judgement, Verdict, VerdictSource};
use crate::data::InputKind;
use crate::stats::KnownInput;

/// The facts of a run that advice depends on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Situation<'a> {
    /// The float model, as named on the command line.
    pub model: &'a str,
    /// The quantized model.
    pub output: &'a str,
    /// Fewest requested bits of weights and activations.
    pub bits: u32,
    /// Whether the quantized network was trained.
    pub is_trained: bool,
    /// Whether the input statistics are a guess.
    pub is_guess: bool,
    /// Whether the guess is the scale of images or features, which flags can set.
    pub is_scale_unknown: bool,
}

impl Situation<'_> {
    /// Returns the situation of a network with these `inputs`, the other fields empty.
    pub fn of_inputs(inputs: &[KnownInput]) -> Self {
        let is_scale = |input: &KnownInput| matches!(input.kind, InputKind::Image { .. } | InputKind::Features);
        let is_guess = inputs.iter().any(|input| input.is_guess);
        let is_scale_unknown = inputs.iter().any(|input| input.is_guess && is_scale(input));
        Self { is_guess, is_scale_unknown, ..Self::default() }
    }

    /// Returns the command to try after `judgement`, and why.
    pub fn advice(&self, judgement: &Judgement) -> String {
        let Self { model, output, bits, is_trained, is_guess, is_scale_unknown } = *self;
        let labels_tell = judgement.source == VerdictSource::Labels;
        match judgement.verdict {
            Verdict::Good => format!("dfq-onnx bench {model} {output} shows what it gains"),
            _ if judgement.source == VerdictSource::Checks => "--keep-failed keeps the file for inspection".to_owned(),
            Verdict::Doubtful if is_guess && !is_scale_unknown && !labels_tell => {
                "a few real inputs (--data FILE) make it sure".to_owned()
            }
            Verdict::Doubtful if is_guess && !labels_tell => {
                "a few real inputs (--data FILE), or how inputs are scaled \
                 (--mean and --std, or --input-range LO:HI), make it sure"
                    .to_owned()
            }
            _ if bits < 8 && !is_trained => {
                "training gains most at these bits: leave out --effort fast and --recipe".to_owned()
            }
            Verdict::Doubtful if !labels_tell => format!(
                "labeled inputs (--eval FILE) or your own inputs (--data FILE) settle it; dfq-onnx sensitivity \
                 {model} --bits {bits} names the layers that cost most"
            ),
            _ if bits < 8 => format!(
                "more bits: --auto-bits {} gives them to the layers that need them, --precision w{bits}a8 or --bits 8 \
                 to all",
                bits + 1
            ),
            _ => format!(
                "dfq-onnx sensitivity {model} --bits 8 names the layers that cost most; --exclude NAME leaves them float"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::{Labels, grade};

    #[test]
    fn advice_follows_from_what_was_not_tried_yet() {
        let broken = grade(&Labels { images: 1000, lost: 300, gained: 0 });
        let doubtful = Judgement { verdict: Verdict::Doubtful, source: VerdictSource::Synthetic, ..broken.clone() };
        let low = Situation { model: "m.onnx", output: "q.onnx", bits: 4, ..Situation::default() };
        let trained = Situation { is_trained: true, ..low };
        let cases = [
            ("good", low.advice(&grade(&Labels { images: 1000, lost: 0, gained: 0 })), "bench m.onnx q.onnx"),
            ("not trained", low.advice(&broken), "leave out --effort fast"),
            ("trained", trained.advice(&broken), "--precision w4a8"),
            ("8 bits", Situation { bits: 8, ..low }.advice(&broken), "--exclude NAME"),
            (
                "a guess",
                Situation { is_guess: true, is_scale_unknown: true, ..trained }.advice(&doubtful),
                "--data FILE",
            ),
            ("a guess of ids", Situation { is_guess: true, ..trained }.advice(&doubtful), "(--data FILE) make it sure"),
            ("synthetic inputs", trained.advice(&doubtful), "--eval FILE"),
        ];
        let wrong: Vec<_> = cases.iter().filter(|(_, found, expected)| !found.contains(expected)).collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}
