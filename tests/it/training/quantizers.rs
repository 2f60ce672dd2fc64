//! Quantizers with trained steps: values are those of the grid, gradients those of LSQ.

use dfq_onnx::autodiff::gradients;
use dfq_onnx::expr::Builder;
use dfq_onnx::ir::{DType, Graph, Tensor};
use dfq_onnx::quant::{Grid, Scheme};
use dfq_onnx::runtime::{Engine, SessionOptions, TractEngine};
use dfq_onnx::train::fake_quantize;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::support::ort;

/// Products and sums of a few numbers.
const TOLERANCE: f32 = 2e-6;

fn engines() -> [(&'static str, &'static dyn Engine); 2] {
    [("ORT", ort()), ("tract", &TractEngine)]
}

fn run(engine: &dyn Engine, graph: &Graph, inputs: &[Tensor]) -> Vec<Vec<f32>> {
    let made = engine.load(graph, &SessionOptions::default()).unwrap().run(inputs).unwrap();
    made.iter().map(|tensor| tensor.to_f32().unwrap()).collect()
}

/// Every form that plans have, with channels that differ where they may.
fn grids() -> Vec<Grid> {
    let mut grids = Vec::new();
    for bits in 2..=8 {
        let symmetric =
            |axis| [Scheme::weight(bits, true, axis), Scheme { narrow: false, ..Scheme::weight(8, true, axis) }];
        let mut schemes = vec![Scheme::activation(bits), Scheme::symmetric_activation(bits)];
        schemes.extend([None, Some(0), Some(1)].into_iter().flat_map(symmetric));
        schemes.extend([None, Some(0), Some(1)].map(|axis| Scheme::weight(bits, false, axis)));
        for scheme in schemes {
            let channels = scheme.axis.map_or(1, |axis| [3, 2][axis]);
            let (lo, hi) = scheme.int_range();
            let zero = |c: i32| if scheme.symmetric { 0 } else { [lo, lo + 1, hi][c as usize] };
            // Steps that are a power of two have ties; others do not divide.
            for scale in [[0.25, 0.5, 2.0], [0.1, 3e-5, 7.3e4]] {
                let (scale, zero_point) = (scale[..channels].to_vec(), (0..channels as i32).map(zero).collect());
                grids.push(Grid { scheme, scale, zero_point });
            }
        }
    }
    grids
}

/// `[3, 2, n]`: ties, grid points and what lies beyond the ends, in steps of each channel.
fn values(grid: &Grid) -> Tensor {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let mut steps: Vec<f32> = (-20..=20).map(|i| i as f32 / 2.0).collect();
    steps.extend([-1e9, -300.5, -128.5, -127.5, 126.5, 127.5, 254.5, 255.5, 1e9, 1e-30, -0.0]);
    steps.extend((0..40).map(|_| rng.random_range(-260.0f32..260.0)));
    let mut values = Vec::new();
    for (i, j) in (0..3).flat_map(|i| [(i, 0), (i, 1)]) {
        let scale = grid.scale[channel(grid, i, j)];
        values.extend(steps.iter().map(|v| v * scale));
    }
    Tensor::from_f32(&[3, 2, steps.len()], &values)
}

fn channel(grid: &Grid, i: usize, j: usize) -> usize {
    grid.scheme.axis.map_or(0, |axis| [i, j][axis])
}

/// tract divides by a step that is broadcast with the reciprocal, which is exact for powers of two alone.
fn is_near_tie(x: f32, grid: &Grid) -> bool {
    grid.scale[0] == 0.1
        && grid.scale.iter().any(|s| ((x / s).abs().fract() - 0.5).abs() < 1e-6 * (1.0 + (x / s).abs()))
}

#[test]
fn values_are_those_of_the_grid_to_the_bit() {
    let mut failed = Vec::new();
    for grid in grids() {
        let x = values(&grid);
        let builder = Builder::new("values");
        let input = builder.input("x", DType::F32, x.shape());
        let scale = builder.input("scale", DType::F32, &[grid.scale.len()]);
        let graph = builder.finish(&[("y", fake_quantize(input, scale, &grid))]).unwrap();
        let inner = x.shape()[2];
        let expected: Vec<f32> = x
            .to_f32()
            .unwrap()
            .iter()
            .enumerate()
            .map(|(k, &v)| {
                let channel = channel(&grid, k / inner / 2, k / inner % 2);
                grid.dequantize(grid.quantize(v, channel), channel)
            })
            .collect();
        let scale = Tensor::from_f32(&[grid.scale.len()], &grid.scale);
        for (name, engine) in engines() {
            let found = &run(engine, &graph, &[x.clone(), scale.clone()])[0];
            let (values, in_tract) = (x.to_f32().unwrap(), name == "tract");
            let differs = |k: &usize| found[*k] != expected[*k] && !(in_tract && is_near_tie(values[*k], &grid));
            let wrong = (0..found.len()).find(differs);
            failed.extend(
                wrong.map(|k| {
                    format!("{name}: {} becomes {}, expected {}, on {grid:?}", values[k], found[k], expected[k])
                }),
            );
        }
    }
    assert!(failed.is_empty(), "{} grids: {failed:#?}", failed.len());
}

/// `x / s`, and by hand from equations 1 to 3 of Esser et al. 2020 with levels -3 to 4: `∂y/∂x` and `∂y/∂s`.
const LSQ: [(f32, f32, f32); 12] = [
    (-100.0, 0.0, -3.0),
    (-3.25, 0.0, -3.0),
    (-2.75, 1.0, -0.25),
    (-0.5, 1.0, 0.5),
    (-0.25, 1.0, 0.25),
    (0.0, 1.0, 0.0),
    (0.5, 1.0, -0.5),
    (1.5, 1.0, 0.5),
    (2.0, 1.0, 0.0),
    (3.75, 1.0, 0.25),
    (4.25, 0.0, 4.0),
    (100.0, 0.0, 4.0),
];

/// Returns the gradients of `Σ w·y` with respect to `x` and the steps.
fn slopes(engine: &dyn Engine, grid: &Grid, x: &Tensor, upstream: &[f32]) -> Vec<Vec<f32>> {
    let builder = Builder::new("slopes");
    let (input, scale) =
        (builder.input("x", DType::F32, x.shape()), builder.input("s", DType::F32, &[grid.scale.len()]));
    let weights = builder.constant("w", Tensor::from_f32(x.shape(), upstream));
    let loss = (fake_quantize(input, scale, grid) * weights).sum(&[], false);
    let found = gradients(loss, &[input, scale]).unwrap();
    let graph = builder.finish(&[("dx", found[0]), ("ds", found[1])]).unwrap();
    run(engine, &graph, &[x.clone(), Tensor::from_f32(&[grid.scale.len()], &grid.scale)])
}

#[test]
fn gradients_are_those_of_lsq() {
    let scheme = |axis| Scheme { bits: 3, signed: false, symmetric: false, narrow: false, axis };
    let n = LSQ.len();
    // Powers of two, so that the table holds to the bit.
    let scales: Vec<f32> = (0..n).map(|i| [0.5, 0.125, 4.0][i % 3]).collect();
    let upstream: Vec<f32> = (0..n).map(|i| (i as f32 - 4.5) / 2.0).collect();
    let cases = [
        ("one step for all", Grid { scheme: scheme(None), scale: vec![0.5], zero_point: vec![3] }),
        ("a step a channel", Grid { scheme: scheme(Some(0)), scale: scales.clone(), zero_point: vec![3; n] }),
        // The last channel has its own zero point, so that bounds lie in a tensor.
        (
            "zero points that differ",
            Grid {
                scheme: scheme(Some(0)),
                scale: scales,
                zero_point: (0..n).map(|i| 3 - i32::from(i + 1 == n)).collect(),
            },
        ),
    ];
    let mut failed = Vec::new();
    for (name, grid) in cases {
        let step = |i: usize| grid.scale[if grid.scale.len() == 1 { 0 } else { i }];
        let x: Vec<f32> = (0..n).map(|i| LSQ[i].0 * step(i)).collect();
        let dx: Vec<f32> = (0..n).map(|i| upstream[i] * LSQ[i].1).collect();
        let mut ds: Vec<f32> = (0..n).map(|i| upstream[i] * LSQ[i].2).collect();
        if grid.zero_point.last() == Some(&2) {
            ds[n - 1] = upstream[n - 1] * 5.0;
        }
        if grid.scale.len() == 1 {
            ds = vec![ds.iter().sum()];
        }
        for (engine_name, engine) in engines() {
            let found = slopes(engine, &grid, &Tensor::from_f32(&[n, 1], &x), &upstream);
            let near = |found: &[f32], expected: &[f32]| {
                found.len() == expected.len()
                    && found.iter().zip(expected).all(|(f, e)| (f - e).abs() <= TOLERANCE * (1.0 + e.abs()))
            };
            if !near(&found[0], &dx) || !near(&found[1], &ds) {
                failed.push(format!("{name}, {engine_name}: {found:?}, expected {dx:?} and {ds:?}"));
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
