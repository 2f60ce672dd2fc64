//! Operators of ours as they are written for the CPU against the same in standard operators, in blocks and plain, with
//! gradients.

use dfq_onnx::autodiff::gradients;
use dfq_onnx::expr::{Builder, Expr, KERNELS, STANDARD};
use dfq_onnx::ir::{Attr, DType, Graph, Tensor};
use dfq_onnx::runtime::Engine;

use super::{normal, run};
use crate::support::{ort, relative_rms};

/// Sums in another order.
const TOLERANCE: f64 = 1e-5;

/// What is built, the channels in the middle, and in blocks of how many channels it lies where there are blocks.
type Case = (&'static str, usize, bool);

const CASES: &[Case] = &[
    ("between convolutions", 16, true),
    ("between convolutions, odd channels", 21, true),
    ("between convolutions, few channels", 5, true),
    ("plain", 3, false),
];

const IMAGES: [usize; 4] = [2, 3, 9, 7];

fn conv<'b>(x: Expr<'b>, w: Expr<'b>) -> Expr<'b> {
    x.builder().apply("Conv", &[x, w], [("pads", Attr::Ints(vec![1; 4]))])
}

/// Builds moments, an affine map and a selection, and the gradients of everything.
fn built(&(name, channels, in_blocks): &Case) -> [Graph; 2] {
    let builder = Builder::new(name);
    let floats = |name: &str, shape: &[usize]| builder.input(name, DType::F32, shape);
    let x = floats("x", &IMAGES);
    let [w, v] = [("w", [channels, 3, 3, 3]), ("v", [4, channels, 3, 3])].map(|(name, shape)| floats(name, &shape));
    let [a, b] = ["a", "b"].map(|name| floats(name, &[channels]));
    let [rows, columns] = [("rows", 6), ("columns", 8)].map(|(name, n)| builder.input(name, DType::I64, &[n]));
    let h = if in_blocks { conv(x, w) } else { x * 1.5 };
    let (mean, variance) = h.channel_moments();
    let y = h.channel_affine(a, b).select(rows, columns);
    let last = if in_blocks { conv(y, v) } else { y };
    let loss = (last * last).mean(&[], false) + (mean * a + variance * b).sum(&[], false);
    let found = gradients(loss, &[x, w, a, b]).unwrap();
    let mut outputs = vec![("mean", mean), ("variance", variance), ("y", y), ("loss", loss)];
    outputs.extend(["dx", "dw", "da", "db"].into_iter().zip(found.iter().map(|e| e.unary("Identity"))));
    [&ort().lowering(), &STANDARD].map(|lowering| builder.finish_by(lowering, &outputs).unwrap())
}

#[test]
fn operators_of_ours_on_the_cpu_are_those_in_standard_operators() {
    let block = ort().lowering().block();
    if block == STANDARD.block() {
        eprintln!("skipped: ONNX Runtime has no blocked kernels on this processor");
        return;
    }
    let indices = |values: &[i64]| Tensor::from_i64(&[values.len()], values);
    let mut failed = Vec::new();
    for case in CASES {
        let (name, channels, in_blocks) = *case;
        let [on_cpu, standard] = built(case);
        let expected_block = if in_blocks { i64::try_from(block).unwrap() } else { 1 };
        for op_type in ["ChannelMoments", "ChannelAffine", "ChannelAffineGradient", "Select", "SelectGradient"] {
            let of_type = on_cpu.nodes.iter().filter(|node| node.domain == KERNELS && node.op_type == op_type);
            let blocks: Vec<i64> = of_type.map(|node| node.attrs.int("block", 0)).collect();
            if blocks.is_empty() || blocks.iter().any(|&block| block != expected_block) {
                failed.push(format!("{name}: {op_type} in blocks of {blocks:?}"));
            }
        }
        let mut inputs = vec![normal(&IMAGES, 1), normal(&[channels, 3, 3, 3], 2), normal(&[4, channels, 3, 3], 3)];
        inputs.extend([normal(&[channels], 4), normal(&[channels], 5)]);
        inputs.extend([indices(&[2, 1, 0, 1, 8, 8]), indices(&[6, 5, 4, 3, 2, 1, 0, 1])]);
        let (found, expected) = (run(&on_cpu, &inputs, 2).unwrap(), run(&standard, &inputs, 2).unwrap());
        for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let error = relative_rms(found, expected);
            if error.is_nan() || error > TOLERANCE {
                failed.push(format!("{name}: output {i} off by {error:.1e}"));
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

/// A convolution of a fixed network: filters, kernel, stride, padding, groups.
type Layer = (usize, usize, i64, i64, usize);

/// Blocks, channels that fill none, strides of all kinds, depthwise, and groups of blocks.
const LAYERS: &[Layer] = &[
    (16, 3, 1, 1, 1),
    (21, 3, 2, 1, 1),
    (32, 1, 1, 0, 1),
    (32, 3, 1, 1, 32),
    (32, 1, 2, 0, 1),
    (32, 3, 1, 1, 2),
    (20, 2, 1, 1, 1),
    (6, 1, 3, 0, 1),
];

fn layer<'b>(x: Expr<'b>, i: usize, (filters, kernel, stride, pad, groups): Layer) -> Expr<'b> {
    let inputs = x.shape()[1] / groups;
    let constant = |name: &str, shape: &[usize], size: f32| {
        let values = normal(shape, u64::try_from(i).unwrap()).to_f32().unwrap();
        let values: Vec<f32> = values.into_iter().map(|value| value * size).collect();
        x.builder().constant(name, Tensor::from_f32(shape, &values))
    };
    let size = (2.0 / (inputs * kernel * kernel) as f32).sqrt();
    let w = constant("w", &[filters, inputs, kernel, kernel], size);
    let attrs = [
        ("strides", Attr::Ints(vec![stride; 2])),
        ("pads", Attr::Ints(vec![pad; 4])),
        ("group", Attr::Int(i64::try_from(groups).unwrap())),
    ];
    x.builder().apply("Conv", &[x, w, constant("bias", &[filters], 0.1)], attrs)
}

/// Builds a network of constant weights, its gradient, and a layer that no gradient passes.
fn fixed(name: &str, shape: [usize; 4]) -> [Graph; 2] {
    let builder = Builder::new(name);
    let x = builder.input("x", DType::F32, &shape);
    let mut y = x;
    for (i, &form) in LAYERS.iter().enumerate() {
        y = layer(y, i, form);
        y = if i % 2 == 0 { y.relu() } else { y.clip(0.0, 1.0) };
    }
    let apart = layer(x.stop_gradient(), 9, LAYERS[0]);
    let loss = (y * y).sum(&[], false) + apart.sum(&[], false);
    let found = gradients(loss, &[x]).unwrap();
    let outputs = [("y", y), ("loss", loss), ("dx", found[0])];
    [&ort().lowering(), &STANDARD].map(|lowering| builder.finish_by(lowering, &outputs).unwrap())
}

#[test]
fn fixed_networks_that_gradients_pass_stay_in_blocks() {
    if ort().lowering().block() == STANDARD.block() {
        eprintln!("skipped: ONNX Runtime has no blocked kernels on this processor");
        return;
    }
    for shape in [[2, 3, 24, 24], [1, 3, 25, 19], [3, 8, 13, 22]] {
        let [on_cpu, standard] = fixed("fixed", shape);
        let left = |op_type: &str| on_cpu.nodes.iter().filter(|n| n.domain.is_empty() && n.op_type == op_type).count();
        assert_eq!(left("Conv"), 1, "what no gradient passes is left to ONNX Runtime");
        assert_eq!(left("ConvTranspose"), 2, "wide windows with strides, and groups");
        assert_eq!(left("Where"), 0, "gradients of Relu and Clip");
        let (found, expected) = (run(&on_cpu, &[normal(&shape, 1)], 2), run(&standard, &[normal(&shape, 1)], 2));
        for (found, expected) in found.unwrap().iter().zip(&expected.unwrap()) {
            let error = relative_rms(found, expected);
            assert!(error <= TOLERANCE, "{shape:?}: off by {error:.1e}");
            assert!(expected.to_f32().unwrap().iter().any(|&value| value != 0.0), "{shape:?}: a network that is dead");
        }
    }
}
