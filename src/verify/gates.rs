//! The user's thresholds on the agreement with the float model.

use super::result::{Check, OutputAgreement, Verification};
use super::{EQUAL_DB, VerifyOptions};

/// Returns the thresholds of `options` with the values of `result`.
pub fn gates(result: &Verification, options: &VerifyOptions) -> Vec<Check> {
    let gate = |name: &str, limit: f64, worst: Option<(String, f64)>, (text, missing): (fn(f64) -> String, &str)| {
        let message = match &worst {
            Some((output, value)) => format!("\"{output}\": {} of at least {}", text(*value), text(limit)),
            None => missing.to_owned(),
        };
        let measured = worst.map(|(_, value)| value);
        Check {
            name: name.to_owned(),
            engine: result.reference.clone().unwrap_or_default(),
            measured,
            limit: Some(limit),
            passed: measured.is_some_and(|value| value >= limit),
            message,
        }
    };
    let agreement = options.min_agreement.map(|limit| {
        let worst = worst(result, |output| output.top1_agreement);
        let missing = "no output holds class scores [n, classes] or labels";
        gate("top-1 agreement with the float model", limit, worst, (percent, missing))
    });
    let sqnr = options.min_sqnr.map(|limit| {
        let missing = "no output could be compared with the float model";
        gate("SQNR against the float model, dB", limit, worst(result, sqnr), (decibels, missing))
    });
    agreement.into_iter().chain(sqnr).collect()
}

/// Returns the output with the smallest value, and that value.
fn worst(result: &Verification, value: impl Fn(&OutputAgreement) -> Option<f64>) -> Option<(String, f64)> {
    let values = result.outputs.iter().filter_map(|o| Some((o.output.clone(), value(o)?)));
    values.min_by(|a, b| a.1.total_cmp(&b.1))
}

/// Returns the ratio to compare: `None` for labels, and the ratio of equal tensors if neither output exceeds the
/// granularity.
fn sqnr(output: &OutputAgreement) -> Option<f64> {
    let silent = output.no_signal && output.sqnr_db >= 0.0;
    (!output.labels).then_some(if silent { EQUAL_DB } else { output.sqnr_db })
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn decibels(value: f64) -> String {
    format!("{value:.1} dB")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(name: &str, sqnr_db: f64, no_signal: bool, top1: Option<f64>) -> OutputAgreement {
        let output = name.to_owned();
        OutputAgreement { output, sqnr_db, no_signal, cosine: 1.0, max_abs: 0.0, labels: false, top1_agreement: top1 }
    }

    #[test]
    fn a_gate_says_which_output_reaches_what_of_which_limit() {
        let outputs = vec![
            output("good", 40.0, false, Some(1.0)),
            output("bad", 20.25, false, Some(0.875)),
            output("silent", 3.0, true, None),
        ];
        let result = Verification { outputs, ..Verification::default() };
        let options = |min_agreement, min_sqnr| VerifyOptions { min_agreement, min_sqnr, ..VerifyOptions::default() };
        let messages = |result: &Verification, options: &VerifyOptions| -> Vec<(bool, String)> {
            gates(result, options).into_iter().map(|gate| (gate.passed, gate.message)).collect()
        };
        let missed = messages(&result, &options(Some(0.99), Some(30.0)));
        let expected = ["\"bad\": 87.5 % of at least 99.0 %", "\"bad\": 20.2 dB of at least 30.0 dB"];
        assert_eq!(missed, expected.map(|text| (false, text.to_owned())));
        assert!(messages(&result, &options(Some(0.8), Some(20.0))).iter().all(|(passed, _)| *passed));
        let nothing = messages(&Verification::default(), &options(Some(0.5), None));
        assert_eq!(nothing, [(false, "no output holds class scores [n, classes] or labels".to_owned())]);
    }
}
