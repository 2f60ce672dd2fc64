//! Tensors that contradict themselves, or whose contents are not to be had.

use std::path::Path;

use dfq_onnx::ir::Tensor;

use super::{Case, case, check, refused};
use crate::support::nets::{net, net_without_w, normalised_net, replace};
use crate::support::wire::{self, INITIALIZER, SPARSE_INITIALIZER, bytes, int, part_of_graph, tensor};

const W: &[i64] = &[2, 1, 3, 3];
const W_BYTES: usize = 72;

fn with(initializer: Vec<u8>) -> Vec<u8> {
    [net_without_w(), part_of_graph(INITIALIZER, initializer)].concat()
}

fn raw(dims: &[i64], data_type: i64, len: usize) -> Vec<u8> {
    with([tensor("w", data_type, dims), bytes(9, vec![0u8; len])].concat())
}

#[test]
fn sizes_that_contradict_the_shape_are_refused() {
    let float = [tensor("w", 1, W), bytes(4, vec![0u8; W_BYTES - 4])].concat();
    let int32 = [tensor("w", 6, W), bytes(5, vec![1u8; 17])].concat();
    let int64 = [tensor("w", 7, W), bytes(7, vec![1u8; 19])].concat();
    let double = [tensor("w", 11, W), bytes(10, vec![0u8; 16])].concat();
    let int4 = [tensor("w", 22, W), bytes(5, vec![1u8; 18])].concat();
    let segment = [tensor("w", 1, W), bytes(3, int(1, 0)), bytes(9, [0u8; W_BYTES])].concat();
    let strings = [tensor("w", 8, W), bytes(6, "a")].concat();
    let place = "error: model.onnx: initializer \"w\"";
    let sized = |expected, found| -> &'static [&'static str] { Vec::leak(vec![place, expected, found]) };
    check(&[
        refused("raw too short", raw(W, 1, W_BYTES - 1), sized("needs 72 bytes", "found 71")),
        refused("raw too long", raw(W, 1, W_BYTES + 4), sized("needs 72 bytes", "found 76")),
        refused("raw empty", raw(W, 1, 0), sized("needs 72 bytes", "found 0")),
        refused("no contents", with(tensor("w", 1, W)), sized("float_data holds 0", "needs 18")),
        refused("float_data", with(float), sized("float_data holds 17", "needs 18")),
        refused("int32_data", with(int32), sized("int32_data holds 17", "needs 18")),
        refused("int64_data", with(int64), sized("int64_data holds 19", "needs 18")),
        refused("double_data", with(double), sized("double_data holds 2", "needs 18")),
        refused("4-bit values", with(int4), sized("int32_data holds 18", "needs 9")),
        refused("negative", raw(&[2, -1, 3, 3], 1, W_BYTES), sized("negative dimension", "[2, -1, 3, 3]")),
        refused("product", raw(&[i64::MAX, i64::MAX], 1, 8), sized("overflows", "9223372036854775807")),
        refused("bytes", raw(&[i64::MAX], 1, 8), sized("overflows", "9223372036854775807")),
        refused("zero of much", raw(&[i64::MAX, i64::MAX, 0], 1, 0), sized("overflows", "9223372036854775807")),
        refused("untyped", raw(W, 0, W_BYTES), sized("without an element type", "")),
        refused("type of the future", raw(W, 99, W_BYTES), sized("element type 99", "not known")),
        refused("segment", with(segment), sized("segment", "not handled")),
        refused("strings", with(strings), sized("string tensors are not handled", "")),
        refused(
            "twice",
            [net(|_| ()), part_of_graph(INITIALIZER, [tensor("w", 1, &[1]), bytes(9, [0; 4])].concat())].concat(),
            sized("defined twice", ""),
        ),
        refused("nameless", with([tensor("", 1, &[1]), bytes(9, [0u8; 4])].concat()), &["without a name"]),
        refused(
            "sparse",
            [net_without_w(), part_of_graph(SPARSE_INITIALIZER, bytes(1, tensor("w", 1, W)))].concat(),
            sized("sparse tensors are not handled", ""),
        ),
    ]);
}

fn external(name: &'static str, entries: &[(&str, &str)], says: &'static [&'static str]) -> Case {
    let model = with(wire::external("w", W, entries));
    let make = move |folder: &Path| {
        std::fs::write(folder.join("model.onnx"), &model).unwrap();
        std::fs::write(folder.join("short.bin"), [0; 40]).unwrap();
        std::fs::create_dir(folder.join("sub")).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink("/etc/hostname", folder.join("link.bin")).unwrap();
    };
    case(name, make, "quantize model.onnx", 3, says)
}

#[test]
fn external_data_must_be_whole_and_beside_the_model() {
    const PLACE: &str = "error: model.onnx: initializer \"w\"";
    let leaves = &[PLACE, "leaves the model's folder", "move the file beside the model"];
    check(&[
        external("missing", &[("location", "absent.bin")], &[PLACE, "\"absent.bin\"", "beside the model"]),
        external("folder", &[("location", "sub")], &[PLACE, "\"sub\"", "directory"]),
        external("no location", &[("offset", "0")], &[PLACE, "without a location"]),
        external("short", &[("location", "short.bin")], &[PLACE, "is 40 bytes", "needs 72 from 0", "whole file"]),
        external("behind the end", &[("location", "short.bin"), ("offset", "4000")], &[PLACE, "needs 72 from 4000"]),
        external(
            "overflowing offset",
            &[("location", "short.bin"), ("offset", "18446744073709551615")],
            &[PLACE, "needs 72 from 18446744073709551615"],
        ),
        external("offset", &[("location", "short.bin"), ("offset", "ten")], &[PLACE, "offset is \"ten\""]),
        external("negative", &[("location", "short.bin"), ("offset", "-8")], &[PLACE, "offset is \"-8\""]),
        external("length", &[("location", "short.bin"), ("length", "40")], &[PLACE, "of 40 bytes", "need 72"]),
        external("parent", &[("location", "../short.bin")], leaves),
        external("hidden parent", &[("location", "sub/../../short.bin")], leaves),
        external("absolute", &[("location", "/etc/hostname")], leaves),
        #[cfg(unix)]
        external("symlink", &[("location", "link.bin")], leaves),
    ]);
}

#[test]
fn weights_that_are_no_numbers_are_refused_by_name() {
    let filled = |value: f32| {
        net(|graph| {
            let mut values = [0.5; 18];
            values[7] = value;
            replace(graph, "w", Tensor::from_f32(&[2, 1, 3, 3], &values));
        })
    };
    let norm = |name: &'static str, values: [f32; 2]| {
        normalised_net(|graph| replace(graph, name, Tensor::from_f32(&[2], &values)))
    };
    let huge = net(|graph| {
        replace(graph, "w", Tensor::from_f32(&[2, 1, 3, 3], &[f32::MAX; 18]));
    });
    let empty = net(|graph| replace(graph, "v", Tensor::from_f32(&[0, 2], &[])));
    check(&[
        refused("NaN", filled(f32::NAN), &["initializer \"w\"", "element 7 of [2, 1, 3, 3] is NaN", "must be finite"]),
        refused("Inf", filled(f32::INFINITY), &["initializer \"w\"", "element 7", "is inf", "export the model again"]),
        refused("-Inf", filled(f32::NEG_INFINITY), &["initializer \"w\"", "is -inf"]),
        refused("NaN scale", norm("gamma", [1.0, f32::NAN]), &["BatchNormalization", "\"gamma\"", "element 1"]),
        refused("negative variance", norm("variance", [1.0, -1.0]), &["\"variance\"", "element 1", "-1", "0 or more"]),
        refused("overflow", huge, &["tensor \"p\"", "on synthetic inputs", "--input-range"]),
        refused("empty", empty, &["(Gemm)", "initializer \"v\"", "[0, 2] is empty"]),
    ]);
}
