//! What a file looks like for each target, and that every target's files hold their checks.

mod containers;
mod dead_channels;
mod tensorrt;

use dfq_onnx::ir::Graph;
use dfq_onnx::plan::{Container, Policy, Target, plan};
use dfq_onnx::runtime::TractEngine;
use dfq_onnx::shape;
use dfq_onnx::verify::{Engines, VerifyOptions, verify};

use crate::support::build::Build;
use crate::support::net::{layer, pads, with_dynamic_batch};
use crate::support::ort;
use crate::support::quantized::quantized;

/// Returns a network whose layers have channels enough for every target: a residual block, a join and two products.
pub fn network() -> Graph {
    let mut g = Build::at(13);
    g.input("x", &[2, 4, 8, 8]);
    layer(&mut g, "Conv", "x", "c1", &[16, 4, 3, 3], 16, pads(1));
    g.node("Relu", "c1", "r1", []);
    layer(&mut g, "Conv", "r1", "c2", &[16, 16, 3, 3], 16, pads(1));
    g.node("Add", "c2 r1", "s", []);
    g.node("Relu", "s", "r2", []);
    layer(&mut g, "Conv", "r2", "c3", &[16, 16, 1, 1], 16, []);
    g.node("Relu", "c3", "r3", []);
    g.node("Concat", "r2 r3", "j", [("axis", 1.into())]);
    layer(&mut g, "Conv", "j", "c4", &[32, 32, 3, 3], 32, pads(1));
    g.node("Relu", "c4", "r4", []);
    g.node("GlobalAveragePool", "r4", "m", []);
    g.node("Flatten", "m", "f", []);
    layer(&mut g, "Gemm", "f", "h", &[24, 32], 24, [("transB", 1.into())]);
    g.node("Relu", "h", "r5", []);
    layer(&mut g, "Gemm", "r5", "y", &[5, 24], 5, [("transB", 1.into())]);
    with_dynamic_batch(g.outputs("y"))
}

/// Returns a policy for `target`.
pub fn policy(target: Target, weight_bits: u32, activation_bits: u32) -> Policy {
    Policy { target, weight_bits, activation_bits, ..Policy::default() }
}

#[test]
fn what_a_target_lacks_is_refused_with_advice() {
    use Container::Int4;
    let mut graph = network();
    shape::infer(&mut graph).unwrap();
    let tensorrt = |w, a| policy(Target::TensorRt, w, a);
    let cases = [
        ("4-bit activations", tensorrt(4, 4), "--precision w4a8"),
        (
            "4-bit activations of a layer",
            Policy { layer_bits: vec![("c2".to_owned(), dfq_onnx::plan::LayerBits::both(4))], ..tensorrt(8, 8) },
            "--precision w4a8",
        ),
        ("affine weights", Policy { symmetric: false, ..tensorrt(8, 8) }, "leave out --affine"),
        ("affine weights", Policy { symmetric: false, ..policy(Target::Portable, 8, 8) }, "leave out --affine"),
        ("a reduced range", Policy { reduce_range: true, ..tensorrt(8, 8) }, "x86"),
        ("int4 in tract", Policy { container: Int4, ..policy(Target::Portable, 4, 8) }, "--container int8"),
        ("int4 at 8 bits", Policy { container: Int4, ..policy(Target::Onnx, 8, 8) }, "--bits 4"),
        ("int4 without a product in 4 bits", Policy { container: Int4, ..tensorrt(8, 8) }, "--bits 4"),
        (
            "int4 convolutions in TensorRT",
            Policy { container: Int4, exclude_ops: vec!["Gemm".to_owned()], ..tensorrt(4, 8) },
            "only weights of Gemm and MatMul",
        ),
    ];
    let mut failed = Vec::new();
    for (name, policy, advice) in cases {
        match plan(&graph, &policy) {
            Err(error) if error.exit_code() == 2 && error.to_string().contains(advice) => {}
            Err(error) => failed.push(format!("{name}: {error}, exit code {}", error.exit_code())),
            Ok(_) => failed.push(format!("{name}: planned")),
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn files_of_every_target_and_container_hold_every_check() {
    let mut failed = Vec::new();
    let float = network();
    let engines = Engines { ort: Some(ort()), tract: Some(&TractEngine) };
    for target in Target::ALL {
        let choices = target.choices();
        for (weight_bits, activation_bits) in [(8, 8), (4, 8), (2, 3)] {
            for container in [Container::Auto, Container::Int8, Container::Int4] {
                if container == Container::Int4 && (weight_bits > 4 || choices.packs.is_empty()) {
                    continue;
                }
                let activation_bits = choices.fewest_activation_bits.max(activation_bits);
                let policy = Policy { container, ..policy(target, weight_bits, activation_bits) };
                let name = format!("{target:?} w{weight_bits}a{activation_bits} in {container:?}");
                let made = quantized(&float, &policy).unwrap();
                let verified = verify(&float, &made.emitted, &engines, None, &VerifyOptions::default()).unwrap();
                let checks = verified.checks.iter().filter(|check| !check.passed);
                failed.extend(checks.map(|check| format!("{name}: {check:?}")));
                if !verified.second_runtime || made.plan.layers.len() < 4 {
                    failed.push(format!("{name}: {:?} ran {} layers", verified.engines, made.plan.layers.len()));
                }
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
