//! Sums of two products at 16 bits, against an emulation of the instruction written down loop by loop.

use dfq_onnx::ir::{Attr, DType, Graph, Tensor};
use dfq_onnx::onnx;
use dfq_onnx::plan::{Policy, Target};
use dfq_onnx::report::saturation_warnings;
use dfq_onnx::runtime::TractEngine;
use dfq_onnx::verify::{Engines, Saturation, VerifyOptions, verify};

use crate::support::build::Build;
use crate::support::quantized::quantized;
use crate::support::{fixture, ort};
use crate::targets::network;

const ZERO_POINT: i64 = 120;
const SIDE: usize = 5;
const CHANNELS: usize = 6;

/// Returns large and small bytes, the same for the same seed.
fn bytes(count: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u8::try_from(state >> 56).unwrap()
    };
    (0..count).map(|_| next()).collect()
}

struct Conv {
    name: &'static str,
    outputs: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
    /// Before and behind, on both axes.
    pads: [usize; 2],
    group: usize,
}

const CONVS: [Conv; 4] = [
    Conv { name: "plain", outputs: 4, kernel: 3, stride: 1, dilation: 1, pads: [1, 1], group: 1 },
    Conv { name: "strided", outputs: 3, kernel: 3, stride: 2, dilation: 1, pads: [0, 1], group: 1 },
    Conv { name: "grouped", outputs: 4, kernel: 3, stride: 1, dilation: 2, pads: [2, 2], group: 2 },
    Conv { name: "depthwise", outputs: 6, kernel: 3, stride: 1, dilation: 1, pads: [1, 1], group: 6 },
];

impl Conv {
    fn per_group(&self) -> usize {
        CHANNELS / self.group
    }

    fn weights(&self) -> Vec<i8> {
        bytes(self.outputs * self.per_group() * self.kernel * self.kernel, 7).into_iter().map(u8::cast_signed).collect()
    }

    /// Returns saturated sums and wrong results over `x` of one sample.
    fn emulate(&self, x: &[u8]) -> (u64, u64) {
        let span = (self.kernel - 1) * self.dilation + 1;
        let side = (SIDE + self.pads[0] + self.pads[1] - span) / self.stride + 1;
        let (weights, channels) = (self.weights(), self.per_group());
        let (mut saturated, mut wrong) = (0, 0);
        for o in 0..self.outputs {
            let first = o / (self.outputs / self.group) * channels;
            for at in 0..side * side {
                let mut products = Vec::new();
                for k in 0..self.kernel * self.kernel {
                    let place = |position: usize, offset: usize| {
                        let moved = position * self.stride + offset * self.dilation;
                        moved.checked_sub(self.pads[0]).filter(|&i| i < SIDE)
                    };
                    let source = place(at / side, k / self.kernel).zip(place(at % side, k % self.kernel));
                    for c in 0..channels {
                        let a = source.map_or(ZERO_POINT, |(y, z)| i64::from(x[((first + c) * SIDE + y) * SIDE + z]));
                        let w = weights[(o * channels + c) * self.kernel * self.kernel + k];
                        products.push(a * i64::from(w));
                    }
                }
                let (sums, lost) = saturate(&products);
                saturated += sums;
                wrong += u64::from(lost != 0);
            }
        }
        (saturated, wrong)
    }
}

/// Returns how many sums of two neighbours leave 16 bits, and what is lost of the whole.
fn saturate(products: &[i64]) -> (u64, i64) {
    let sums: Vec<i64> = products.chunks_exact(2).map(|pair| pair[0] + pair[1]).collect();
    let lost = |sum: &i64| sum - sum.clamp(&-32768, &32767);
    let count = sums.iter().filter(|sum| lost(sum) != 0).count();
    (u64::try_from(count).unwrap(), sums.iter().map(lost).sum())
}

fn int8(values: &[i8], shape: &[usize]) -> Tensor {
    let values: Vec<i32> = values.iter().map(|&v| i32::from(v)).collect();
    Tensor::from_ints(DType::I8, shape, &values).unwrap()
}

/// Returns all convolutions and a product of one quantized input whose scale is 1.
fn graph() -> Graph {
    let mut g = Build::at(13);
    g.input("x", &[2, CHANNELS, SIDE, SIDE]);
    g.constant("one", Tensor::from_f32(&[], &[1.0]));
    g.constant("zero", Tensor::from_ints(DType::U8, &[], &[i32::try_from(ZERO_POINT).unwrap()]).unwrap());
    g.node("QuantizeLinear", "x one zero", "q", []);
    g.node("DequantizeLinear", "q one zero", "d", []);
    let square = |n: usize| Attr::Ints(vec![i64::try_from(n).unwrap(); 2]);
    for conv in &CONVS {
        let (w, d) = (format!("{}_w", conv.name), format!("{}_d", conv.name));
        g.constant(&w, int8(&conv.weights(), &[conv.outputs, conv.per_group(), conv.kernel, conv.kernel]));
        g.node("DequantizeLinear", &format!("{w} one"), &d, []);
        let [before, behind] = conv.pads.map(|n| i64::try_from(n).unwrap());
        let attrs = [
            ("strides", square(conv.stride)),
            ("dilations", square(conv.dilation)),
            ("pads", vec![before, before, behind, behind].into()),
            ("group", Attr::Int(i64::try_from(conv.group).unwrap())),
        ];
        g.node("Conv", &format!("d {d}"), conv.name, attrs);
    }
    let weights: Vec<i8> = bytes(SIDE * 3, 9).into_iter().map(u8::cast_signed).collect();
    g.constant("product_w", int8(&weights, &[SIDE, 3]));
    g.node("DequantizeLinear", "product_w one", "product_d", []);
    g.node("MatMul", "d product_d", "product", []);
    g.outputs("plain strided grouped depthwise product")
}

fn found_in(graph: &Graph, inputs: Option<&[Tensor]>) -> Vec<Saturation> {
    let engines = Engines { ort: Some(ort()), tract: Some(&TractEngine) };
    verify(graph, graph, &engines, inputs, &VerifyOptions::default()).unwrap().saturation
}

#[test]
fn saturated_sums_are_those_of_the_instruction() {
    let x = bytes(2 * CHANNELS * SIDE * SIDE, 3);
    let floats: Vec<f32> = x.iter().map(|&v| f32::from(v) - ZERO_POINT as f32).collect();
    let input = Tensor::from_f32(&[2, CHANNELS, SIDE, SIDE], &floats);
    let found = found_in(&graph(), Some(&[input]));
    let mut failed = Vec::new();
    for conv in &CONVS {
        let of_sample = |sample: &[u8]| conv.emulate(sample);
        let counts: Vec<(u64, u64)> = x.chunks_exact(CHANNELS * SIDE * SIDE).map(of_sample).collect();
        let expected = (counts.iter().map(|c| c.0).sum::<u64>(), counts.iter().map(|c| c.1).sum::<u64>());
        let seen = found.iter().find(|s| s.layer == conv.name).map(|s| (s.saturated, s.wrong_results));
        // Depthwise kernels do not add products of bytes.
        if seen != (conv.group != CHANNELS).then_some(expected) {
            failed.push(format!("{}: {seen:?}, expected {expected:?}", conv.name));
        }
        if conv.group != CHANNELS && expected.0 == 0 {
            failed.push(format!("{}: the case never saturates", conv.name));
        }
    }
    let weights: Vec<i64> = bytes(SIDE * 3, 9).into_iter().map(|b| i64::from(b.cast_signed())).collect();
    let (mut saturated, mut lost) = (0, 0f64);
    for row in x.chunks_exact(SIDE) {
        for o in 0..3 {
            let products: Vec<i64> = row.iter().enumerate().map(|(k, &a)| i64::from(a) * weights[k * 3 + o]).collect();
            let (sums, missing) = saturate(&products);
            saturated += sums;
            lost = lost.max((missing as f64).abs());
        }
    }
    let product = found.iter().find(|s| s.layer == "product").unwrap();
    if (product.saturated, product.largest_error) != (saturated, lost) || saturated == 0 {
        failed.push(format!("{product:?}, expected {saturated} sums and an error of {lost}"));
    }
    if !found.iter().all(|s| s.relative_rms > 0.0 && s.relative_rms < 1.0) {
        failed.push(format!("relative RMS: {found:?}"));
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn a_reduced_range_cannot_saturate() {
    let mut failed = Vec::new();
    let mut graphs = vec![("all targets", network())];
    for name in ["digits_resnet8.onnx", "digits_mobilenet.onnx"] {
        graphs.push((name, onnx::load(&fixture(name)).unwrap()));
    }
    for (name, graph) in &graphs {
        for (reduce_range, per_channel) in [(false, true), (true, true), (true, false)] {
            let target = Target::OrtCpu;
            let policy = Policy { target, reduce_range, per_channel, ..Policy::default() };
            let found = found_in(&quantized(graph, &policy).unwrap().emitted, None);
            if found.is_empty() != reduce_range {
                failed.push(format!("{name}, reduced {reduce_range}: {found:?}"));
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn reports_warn_of_saturation_where_integer_kernels_of_x86_run_the_file() {
    let float = onnx::load(&fixture("digits_mobilenet.onnx")).unwrap();
    let saturation = |layer: &str, saturated| Saturation {
        layer: layer.to_owned(),
        pairs: 10,
        risky_pairs: 2,
        saturated,
        results: 100,
        wrong_results: saturated,
        largest_error: 1.0,
        relative_rms: saturated as f64 / 100.0,
    };
    let seen = [saturation("first", 5), saturation("second", 7), saturation("third", 0)];
    let mut failed = Vec::new();
    for target in Target::ALL {
        let made = quantized(&float, &Policy { target, ..Policy::default() }).unwrap();
        let warned = |seen: &[Saturation], lacks_vnni| -> String {
            saturation_warnings(&made.plan, seen, lacks_vnni).map_or(String::new(), |warning| warning.to_string())
        };
        let expected = matches!(target, Target::OrtCpu | Target::OpenVino | Target::Portable);
        let found = [warned(&seen, true), warned(&seen, false)];
        let unfounded = [warned(&seen[2..], true), warned(&[], true), warned(&[], false)];
        if found.iter().any(|text| text.is_empty() == expected) || unfounded.iter().any(|text| !text.is_empty()) {
            failed.push(format!("{target:?}: {found:?} {unfounded:?}"));
        }
        let says = ["2 layer(s): 6.00 %", "worst in second", "--reduce-range"];
        if expected && !found.iter().all(|found| says.iter().all(|text| found.contains(text))) {
            failed.push(format!("{target:?}: {found:?}"));
        }
        if expected && found.clone().map(|text| text.contains("such as this one")) != [true, false] {
            failed.push(format!("{target:?}: {found:?}"));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
