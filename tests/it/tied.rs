//! Weights that several nodes read.

use dfq_onnx::ir::{Attr, DType, Graph};
use dfq_onnx::onnx;
use serde_json::Value;

use crate::support::build::Build;
use crate::support::net::{layer, norm, normal, pads};
use crate::support::program::run;

/// Two convolutions of one weight, with biases of their own, between two others.
pub fn convolutions(normalised: bool) -> Graph {
    let mut g = Build::at(13);
    g.fed("x", DType::F32, "N, 3, 8, 8");
    g.constant("w", normal(&[4, 4, 3, 3], 0.25, 1));
    g.constant("b1", normal(&[4], 0.3, 2));
    g.constant("b2", normal(&[4], 0.3, 3));
    layer(&mut g, "Conv", "x", "c0", &[4, 3, 3, 3], 4, pads(1));
    g.node("Relu", "c0", "r0", []);
    g.node("Conv", "r0 w b1", "c1", pads(1));
    let behind =
        |g: &mut Build, c: &str, n: &str| if normalised { norm(g, c, n, 4) } else { g.node("Identity", c, n, []) };
    behind(&mut g, "c1", "n1");
    g.node("Relu", "n1", "r1", []);
    g.node("Conv", "r1 w b2", "c2", pads(1));
    behind(&mut g, "c2", "n2");
    g.node("Relu", "n2", "r2", []);
    layer(&mut g, "Conv", "r2", "y", &[2, 4, 1, 1], 2, []);
    g.outputs("y")
}

/// A square weight that a Gemm reads by rows and a MatMul by columns.
fn both_ways() -> Graph {
    let mut g = Build::at(13);
    g.fed("x", DType::F32, "N, 6");
    g.constant("w", normal(&[6, 6], 0.4, 1));
    g.node("Gemm", "x w", "a", [("transB", Attr::Int(1))]);
    g.node("Relu", "a", "r", []);
    g.node("MatMul", "r w", "m", []);
    g.node("Relu", "m", "s", []);
    layer(&mut g, "MatMul", "s", "y", &[6, 3], 0, []);
    g.outputs("y")
}

/// A table of word vectors that also gives the scores of words.
fn words() -> Graph {
    let mut g = Build::at(13);
    g.fed("ids", DType::I64, "N, 5");
    g.constant("table", normal(&[40, 16], 0.5, 4));
    g.node("Gather", "table ids", "e", []);
    g.node("ReduceMean", "e", "p", [("axes", vec![1].into()), ("keepdims", 0.into())]);
    layer(&mut g, "Gemm", "p", "h", &[16, 16], 16, []);
    g.node("Relu", "h", "r", []);
    g.node("Gemm", "r table", "y", [("transB", Attr::Int(1))]);
    g.outputs("y")
}

fn warned(report: &Value, kind: &str) -> Vec<Value> {
    report["warnings"].as_array().unwrap().iter().filter(|w| w["kind"] == kind).cloned().collect()
}

#[test]
fn a_tied_weight_is_stored_once_for_each_use_that_it_has_and_what_is_stored_twice_is_said() {
    let duplicated = |copies: u32| (Some(copies), None);
    let cases = [
        ("same axis and bits", convolutions(false), "", "w", 1, (None, None)),
        ("other bits", convolutions(false), "--layer-bits c2=4", "w", 2, duplicated(2)),
        ("one layer excluded", convolutions(false), "--exclude c2", "w", 1, (None, Some("\"c2\" (Conv)"))),
        ("other axis", both_ways(), "", "w", 2, duplicated(2)),
        ("other axis, one scale for all", both_ways(), "--per-tensor", "w", 1, (None, None)),
        ("a table of words", words(), "", "table", 1, (None, Some("\"e\" (Gather)"))),
        // Each normalisation folds into a weight of its own.
        ("behind other normalisations", convolutions(true), "", "w", 1, (None, None)),
    ];
    let mut failed = Vec::new();
    for (name, graph, flags, weight, stored, (copies, reader)) in cases {
        let folder = tempfile::tempdir().unwrap();
        onnx::save(&graph, &folder.path().join("model.onnx"), usize::MAX).unwrap();
        let ran = run(folder.path(), &format!("quantize model.onnx -o out.onnx --all-layers --format json {flags}"));
        if ran.code != Some(0) {
            failed.push(format!("{name}: exit {:?}: {}", ran.code, ran.stderr));
            continue;
        }
        let (report, emitted) = (ran.json(), onnx::load(&folder.path().join("out.onnx")).unwrap());
        let integers = emitted.value_ids().filter(|&id| {
            let of_weight = emitted.name_of(id).starts_with(&format!("{weight}_quantized"));
            of_weight && emitted.constant_of(id).is_some()
        });
        if integers.count() != stored {
            failed.push(format!("{name}: not stored {stored} time(s)"));
        }
        let is_float = emitted.find(weight).is_some_and(|id| emitted.constant_of(id).is_some());
        if is_float != reader.is_some() {
            failed.push(format!("{name}: in float: {is_float}"));
        }
        let found = warned(&report, "duplicated_weight").first().map(|w| w["copies"].as_u64().unwrap());
        if found != copies.map(u64::from) {
            failed.push(format!("{name}: {found:?} copies reported"));
        }
        let found = warned(&report, "weight_stays_float_too");
        let found = found.first().map(|w| w["readers"][0].as_str().unwrap());
        if found.is_some() != reader.is_some() || reader.is_some_and(|r| !found.unwrap().contains(r)) {
            failed.push(format!("{name}: float readers {found:?}"));
        }
        // 4 bits in one layer leave 15 dB, a wrong weight less than 3.
        let sqnr = report["verification"]["outputs"][0]["sqnr_db"].as_f64().unwrap();
        if sqnr < 10.0 {
            failed.push(format!("{name}: {sqnr} dB against the original"));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
