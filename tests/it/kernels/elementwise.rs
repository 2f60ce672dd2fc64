//! `FakeQuantize` and its gradient against the expressions that they stand for.

use dfq_onnx::autodiff::gradients;
use dfq_onnx::expr::Builder;
use dfq_onnx::ir::{Attr, Attrs, DType, Graph, Tensor};
use dfq_onnx::quant::{Grid, Scheme};
use dfq_onnx::train::fake_quantize;

use super::{normal, positive, run, run_alike, single};
use crate::support::relative_rms;

/// The standard operators multiply by the step and divide by it again.
const DX: f64 = 2e-7;
/// They add in f32.
const DSTEP: f64 = 2e-5;

/// A quantizer: the shape of x, bits, the zero point, and the axis of its steps.
type Case = (&'static str, &'static [usize], u32, i32, Option<usize>);

const CASES: &[Case] = &[
    ("unsigned", &[2, 3, 50, 41], 4, 0, None),
    ("signed", &[7, 64, 3, 3], 4, 8, None),
    ("eight bits", &[40_000], 8, 128, None),
    ("two bits", &[33, 31], 2, 1, None),
    ("one element", &[1], 4, 8, None),
    ("no element", &[0, 3], 4, 8, None),
    ("rows", &[24, 10, 3, 3], 4, 8, Some(0)),
    ("long rows", &[3, 20_000], 4, 8, Some(0)),
    ("channels", &[4, 5, 30, 30], 8, 0, Some(1)),
    ("columns", &[100, 300], 4, 8, Some(1)),
];

fn grid((_, shape, bits, zero_point, axis): Case) -> Grid {
    let steps = axis.map_or(1, |axis| shape[axis]);
    let scheme = Scheme { axis, ..Scheme::activation(bits) };
    Grid { scheme, scale: vec![1.0; steps], zero_point: vec![zero_point; steps] }
}

/// Returns elements on all sides of the ends of the grid, some of them right between levels or at an end.
fn elements(case: Case, steps: &Tensor) -> Tensor {
    let (_, shape, bits, zero_point, axis) = case;
    let inner: usize = axis.map_or(usize::MAX, |axis| shape[axis + 1..].iter().product());
    let (steps, reach) = (steps.to_f32().unwrap(), 2f32.powi(i32::try_from(bits).unwrap()));
    let mut values = normal(shape, 3).to_f32().unwrap();
    for (i, value) in values.iter_mut().enumerate() {
        let step = steps[i / inner % steps.len()];
        let middle = reach / 2.0 - zero_point as f32;
        *value = match i % 5 {
            0 => (*value * reach / 4.0).round() * step * 0.5,
            1 if i % 7 == 0 => -0.0,
            _ => (middle + *value * reach / 3.0) * step,
        };
    }
    Tensor::from_f32(shape, &values)
}

fn attrs(case: Case) -> Attrs {
    let (lo, hi) = grid(case).levels(0);
    let axis = case.4.map_or(-1, |axis| i64::try_from(axis).unwrap());
    Attrs::from([("lo", Attr::Float(lo)), ("hi", Attr::Float(hi)), ("axis", Attr::Int(axis))])
}

/// Returns Div, Clip, Round and Mul, and the expression of training, or its dx and dscale, from x, the scales, and dy.
fn standard(case: Case, gradient: bool) -> Graph {
    let grid = grid(case);
    let builder = Builder::new(case.0);
    let input = |name: &str, shape: &[usize]| builder.input(name, DType::F32, shape);
    let (x, steps) = (input("x", case.1), input("steps", &[grid.scale.len()]));
    let y = fake_quantize(x, steps, &grid);
    if !gradient {
        let mut aligned = vec![1; x.rank()];
        if let Some(axis) = case.4 {
            aligned[axis] = grid.scale.len();
        }
        let (steps, (lo, hi)) = (steps.reshape(&aligned), grid.levels(0));
        let operators = (x / steps).clip(lo, hi).round() * steps;
        return builder.finish(&[("operators", operators), ("y", y)]).unwrap();
    }
    let found = gradients((y * input("dy", case.1)).sum(&[], false), &[x, steps]).unwrap();
    builder.finish(&[("dx", found[0].unary("Identity")), ("dscale", found[1].unary("Identity"))]).unwrap()
}

#[test]
fn fake_quantize_gives_the_bits_of_the_standard_operators() {
    let mut failed = Vec::new();
    for &case in CASES {
        let steps = positive(&[grid(case).scale.len()], 4);
        let inputs = [elements(case, &steps), steps];
        let graph = single("FakeQuantize", &[case.1, inputs[1].shape()], 1, attrs(case));
        match (run(&standard(case, false), &inputs, 1), run_alike(&graph, &inputs)) {
            (Ok(expected), Ok(found)) => {
                if found[0].bytes() != expected[0].bytes() {
                    failed.push(format!("{}: other bits", case.0));
                }
                // The straight-through estimator makes +0 of -0.
                if found[0].to_f32().unwrap() != expected[1].to_f32().unwrap() {
                    failed.push(format!("{}: other numbers than in training", case.0));
                }
            }
            (expected, found) => failed.push(format!("{}: {:?}, {:?}", case.0, expected.err(), found.err())),
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn gradients_of_fake_quantize_are_those_of_the_standard_operators() {
    let mut failed = Vec::new();
    for &case in CASES {
        let steps = positive(&[grid(case).scale.len()], 4);
        let inputs = [elements(case, &steps), steps, normal(case.1, 5)];
        let graph = single("FakeQuantizeGradient", &[case.1, inputs[1].shape(), case.1], 2, attrs(case));
        match (run(&standard(case, true), &inputs, 1), run_alike(&graph, &inputs)) {
            (Ok(expected), Ok(found)) => {
                let errors = [0, 1].map(|i| relative_rms(&found[i], &expected[i]));
                if !(errors[0] <= DX && errors[1] <= DSTEP) {
                    failed.push(format!("{}: dx and dscale off by {errors:?}", case.0));
                }
            }
            (expected, found) => failed.push(format!("{}: {:?}, {:?}", case.0, expected.err(), found.err())),
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
