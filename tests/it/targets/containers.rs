//! What 4-bit weights are stored in.

use dfq_onnx::ir::DType;
use dfq_onnx::plan::{Container, Policy, Target};
use dfq_onnx::report;

use super::{network, policy};
use crate::support::program::run;
use crate::support::quantized::quantized;

#[test]
fn containers_follow_the_target_unless_asked_for() {
    use Container::{Auto, Int4, Int8};
    // `c2_w` is a convolution's, `h_w` a product's; both have 4 bits.
    let cases = [
        (Target::Onnx, Auto, DType::I4, DType::I4),
        (Target::Onnx, Int8, DType::I8, DType::I8),
        (Target::OrtCpu, Auto, DType::I8, DType::I8),
        (Target::OrtCpu, Int4, DType::I4, DType::I4),
        (Target::TensorRt, Auto, DType::I8, DType::I4),
        (Target::TensorRt, Int8, DType::I8, DType::I8),
        (Target::OpenVino, Auto, DType::I8, DType::I8),
        (Target::Portable, Auto, DType::I8, DType::I8),
    ];
    let mut failed = Vec::new();
    for (target, container, conv, product) in cases {
        let policy = Policy { container, ..policy(target, 4, 8) };
        let made = quantized(&network(), &policy).unwrap();
        let dtype = |name: &str| made.emitted.constant_of(made.emitted.find(name).unwrap()).unwrap().dtype();
        let found = [dtype("c2_w_quantized"), dtype("h_w_quantized")];
        let choice = report::container(&policy, &made.plan, &made.solution);
        let packed = found.contains(&DType::I4);
        let sizes = [choice.bytes == choice.bytes_int8, choice.bytes == choice.bytes_int4];
        let sizes_fit = match (packed, target) {
            (true, _) => sizes == [false, true],
            (false, Target::Portable) => sizes == [true, true],
            (false, _) => sizes == [true, false],
        };
        if found != [conv, product] || !sizes_fit || choice.reason.is_empty() {
            failed.push(format!("{target:?} {container:?}: {found:?} {choice:?}"));
        }
        if (made.emitted.opset() >= 21) != packed {
            failed.push(format!("{target:?} {container:?}: opset {}", made.emitted.opset()));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn the_report_says_which_container_and_what_the_other_would_take() {
    let folder = tempfile::tempdir().unwrap();
    let quantize = "quantize {fixtures}/digits_resnet8.onnx --bits 4 --samples 2 -o q.onnx";
    let table = run(folder.path(), quantize);
    assert_eq!(table.code, Some(0), "{}", table.stderr);
    assert!(table.stdout.contains("container  int4 (--target onnx"), "{}", table.stdout);
    let json = run(folder.path(), &format!("{quantize} --container int8 --format json")).json();
    let bytes = |key: &str| json["container"][key].as_u64().unwrap();
    assert!(bytes("bytes") == bytes("bytes_int8") && bytes("bytes_int4") < bytes("bytes_int8"), "{json}");
    assert_eq!(json["container"]["reason"], "asked for");
    let refused = run(folder.path(), "quantize {fixtures}/digits_resnet8.onnx --container int4 -o r.onnx");
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
}
