//! Outputs without a signal have finite figures, and a difference that says nothing refuses nothing.

use dfq_onnx::ir::{Attr, Graph};
use dfq_onnx::report::render_verification;
use dfq_onnx::verify::{Verification, VerifyOptions, verify};

use super::{both, failed, named};
use crate::support::qdq::{Qdq, U8};

/// Returns a layer with a bias so low (times `size`) that `last` makes nearly nothing of its result, in floats and
/// quantized.
fn networks(last: &str, offset: f32) -> [Graph; 2] {
    [false, true].map(|is_quantized| {
        let mut q = Qdq::new(21);
        let mut at = q.input("x", &[2, 8]);
        if is_quantized {
            at = q.pair(at, U8);
        }
        let w = q.constant(&[8, 8]);
        at = q.node("layer", "Gemm", &[at, w], [("transB", Attr::Int(1))]);
        let by = q.scalar(offset);
        at = q.node("low", "Add", &[at, by], []);
        at = q.node("y", last, &[at], []);
        named(q.finish(&[at]))
    })
}

fn checked(last: &str, offset: f32, min_sqnr: Option<f64>) -> Verification {
    let [float, quantized] = networks(last, offset);
    verify(&float, &quantized, &both(), None, &VerifyOptions { min_sqnr, ..VerifyOptions::default() }).unwrap()
}

#[test]
fn results_of_nearly_nothing_pass_and_are_called_what_they_are() {
    let cases = [("Sigmoid", -15.0), ("Sigmoid", -60.0), ("Sigmoid", -1e6), ("Relu", -1e3), ("HardSigmoid", -1e3)];
    let mut wrong = Vec::new();
    for (last, offset) in cases {
        let result = checked(last, offset, Some(20.0));
        let output = &result.outputs[0];
        let figures = [output.sqnr_db, output.cosine, output.max_abs];
        if !result.passed() || !result.gates_passed() {
            wrong.push(format!("{last} at {offset}: {:?} {:?} {output:?}", failed(&result), result.gates));
        }
        if !output.no_signal || !figures.iter().all(|v| v.is_finite()) {
            wrong.push(format!("{last} at {offset}: {output:?}"));
        }
        if !render_verification(&result).contains("no signal") {
            wrong.push(format!("{last} at {offset}: {}", render_verification(&result)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_output_that_is_zero_in_floats_alone_misses_its_threshold() {
    let [float, _] = networks("Relu", -1e3);
    let [_, quantized] = networks("Relu", 0.0);
    let options = VerifyOptions { min_sqnr: Some(0.0), ..VerifyOptions::default() };
    let result = verify(&float, &quantized, &both(), None, &options).unwrap();
    assert!(!result.gates_passed() && result.outputs[0].sqnr_db.is_finite(), "{:?}", result.outputs);
    assert!(result.gates[0].message.contains("dB of at least 0.0 dB"), "{:?}", result.gates);
}

#[test]
fn signals_are_told_from_none() {
    for (last, offset) in [("Sigmoid", 0.0), ("Relu", 1.0), ("Identity", -1e3)] {
        let result = checked(last, offset, None);
        assert!(result.passed() && !result.outputs[0].no_signal, "{last}: {:?}", result.outputs);
    }
}
