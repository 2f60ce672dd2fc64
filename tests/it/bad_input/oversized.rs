//! Attributes and sizes that no machine has memory for: refused before anything is allocated.

use std::path::Path;

use dfq_onnx::ir::{Attr, Attrs, DType, Tensor};
use dfq_onnx::onnx;

use super::{Case, case, check};
use crate::support::build::Build;

/// Returns `x[1, 3, 8, 8] -> first -> t`, what `spoil` makes of `t` as `u`, and a mean and a Gemm behind it.
fn net(spoil: impl Fn(&mut Build)) -> Vec<u8> {
    let mut b = Build::at(17);
    b.input("x", &[1, 3, 8, 8]);
    b.weights("w", &[4, 3, 3, 3]);
    b.weights("v", &[3, 4]);
    b.node("Conv", "x w", "t", []);
    spoil(&mut b);
    b.node("GlobalAveragePool", "u", "p", []);
    b.node("Flatten", "p", "f", []);
    b.node("Gemm", "f v", "y", [("transB", Attr::Int(1))]);
    b.declare("y", DType::F32);
    onnx::encode(&b.outputs("y")).unwrap()
}

fn with(name: &'static str, code: i32, says: &'static [&'static str], spoil: impl Fn(&mut Build)) -> Case {
    let model = net(spoil);
    let make = move |folder: &Path| std::fs::write(folder.join("model.onnx"), &model).unwrap();
    case(name, make, "quantize model.onnx", code, says)
}

fn ints(pairs: &[(&str, i64, usize)]) -> Attrs {
    let mut attrs = Attrs::default();
    pairs.iter().for_each(|&(name, value, count)| attrs.set(name, vec![value; count]));
    attrs
}

/// One node in the place of `spoil`, with an integer tensor as its second input where there is one.
fn node(op: &'static str, second: &'static [i64], attrs: Attrs) -> impl Fn(&mut Build) {
    move |b: &mut Build| {
        if second.is_empty() {
            return b.node(op, "t", "u", attrs.clone());
        }
        b.ints("second", second);
        b.node(op, "t second", "u", attrs.clone());
    }
}

fn layer(op: &'static str, attrs: Attrs) -> impl Fn(&mut Build) {
    move |b: &mut Build| {
        b.weights("k", &[4, 4, 3, 3]);
        b.node(op, "t k", "u", attrs.clone());
    }
}

fn resized(scale: f32) -> impl Fn(&mut Build) {
    move |b: &mut Build| {
        b.constant("scales", Tensor::from_f32(&[4], &[1.0, 1.0, scale, scale]));
        b.node("Resize", "t _ scales", "u", []);
    }
}

/// A tensor of `shape` that a Mul spreads its mean over `t` from.
fn spread(op: &'static str, shape: &'static [i64]) -> impl Fn(&mut Build) {
    move |b: &mut Build| {
        match op {
            "Range" => {
                for (name, value) in [("start", 0), ("limit", shape[0]), ("delta", 1)] {
                    b.constant(name, Tensor::from_i64(&[], &[value]));
                }
                b.node("Range", "start limit delta", "integers", []);
                b.node("Cast", "integers", "spread", [("to", Attr::Int(1))]);
            }
            "ConstantOfShape" => {
                b.ints("shape", shape);
                b.node(op, "shape", "spread", []);
            }
            _ => {
                b.ints("shape", shape);
                b.weights("one", &[1; 1]);
                b.node(op, "one shape", "spread", []);
            }
        }
        b.node("ReduceMean", "spread", "mean", [("keepdims", Attr::Int(0))]);
        b.node("Mul", "t mean", "u", []);
    }
}

const FAR: i64 = 20_000;
const VERY_FAR: i64 = 1_000_000;

#[test]
fn tensors_that_a_tiny_file_asks_for_are_missing_resources() {
    let told = |op: &str| -> &'static [&'static str] { Vec::leak(vec![format!("({op})").leak(), "GB"]) };
    check(&[
        with("far taps", 5, told("Conv"), layer("Conv", ints(&[("dilations", FAR, 2), ("pads", FAR, 4)]))),
        with(
            "very far taps",
            5,
            told("Conv"),
            layer("Conv", ints(&[("dilations", VERY_FAR, 2), ("pads", VERY_FAR, 4)])),
        ),
        with(
            "far taps, padded to the same size",
            5,
            told("Conv"),
            layer("Conv", Attrs::from([("dilations", Attr::Ints(vec![FAR; 2])), ("auto_pad", "SAME_UPPER".into())])),
        ),
        with("a large stride back", 5, told("ConvTranspose"), layer("ConvTranspose", ints(&[("strides", FAR, 2)]))),
        with(
            "what is cut off again",
            5,
            told("ConvTranspose"),
            layer("ConvTranspose", ints(&[("strides", FAR, 2), ("pads", 50_000, 4)])),
        ),
        with(
            "max pool",
            5,
            told("MaxPool"),
            node("MaxPool", &[], ints(&[("kernel_shape", FAR, 2), ("pads", FAR - 1, 4)])),
        ),
        with(
            "mean",
            5,
            told("AveragePool"),
            node("AveragePool", &[], ints(&[("kernel_shape", FAR, 2), ("pads", FAR - 1, 4)])),
        ),
        with("pad", 5, told("Pad"), node("Pad", &[0, 0, FAR, FAR, 0, 0, 0, 0], Attrs::default())),
        with("pad samples", 5, told("Pad"), node("Pad", &[1 << 40, 0, 0, 0, 0, 0, 0, 0], Attrs::default())),
        with("tile", 5, told("Tile"), node("Tile", &[1, 1, FAR, FAR], Attrs::default())),
        with("expand", 5, told("Expand"), node("Expand", &[1 << 30, 4, 6, 6], Attrs::default())),
        with("scales", 5, told("Resize"), resized(1e4)),
        with("large scales", 5, told("Resize"), resized(1e9)),
        with("range", 5, told("Range"), spread("Range", &[1 << 30])),
        with("zeros", 5, told("ConstantOfShape"), spread("ConstantOfShape", &[30_000, 30_000])),
        with("more zeros than numbers", 5, told("ConstantOfShape"), spread("ConstantOfShape", &[1 << 40, 1 << 40])),
        with("a spread number", 5, told("Expand"), spread("Expand", &[1 << 31])),
    ]);
}

#[test]
fn axes_that_fit_no_number_are_a_bad_model() {
    let told = |op: &str| -> &'static [&'static str] {
        Vec::leak(vec![format!("({op})").leak(), "model.onnx: node", "2^63 elements or more"])
    };
    const FARTHEST: i64 = i64::MAX;
    check(&[
        with("stride", 3, told("ConvTranspose"), layer("ConvTranspose", ints(&[("strides", 1 << 61, 2)]))),
        with(
            "output padding",
            3,
            told("ConvTranspose"),
            layer("ConvTranspose", ints(&[("output_padding", FARTHEST, 2)])),
        ),
        with("dilation", 3, told("ConvTranspose"), layer("ConvTranspose", ints(&[("dilations", FARTHEST, 2)]))),
        with("pad", 3, told("Pad"), node("Pad", &[0, 0, FARTHEST, 0, 0, 0, 0, 0], Attrs::default())),
        with("tile", 3, told("Tile"), node("Tile", &[1, 1 << 62, 1, 1], Attrs::default())),
        with("scale", 3, told("Resize"), resized(1e30)),
    ]);
}
