//! `ChannelMoments`, `ChannelAffine` and its gradient against their formulas in f64.

use dfq_onnx::ir::{Attr, Tensor};

use super::{normal, run_alike, single, to_blocks};
use crate::support::relative_rms;

/// Results are rounded once, and the affine map twice.
const TOLERANCE: f64 = 1e-7;
/// The variance of numbers that are 1000 times as large as their deviation, from sums in f64.
const OF_LARGE_MEANS: f64 = 1e-6;

/// Shapes of which the last two axes are one where a tensor has fewer.
const SHAPES: &[(&str, [usize; 4])] = &[
    ("whole blocks", [3, 32, 8, 8]),
    ("odd channels and sizes", [2, 21, 7, 5]),
    ("one image", [1, 16, 9, 11]),
    ("fewer channels than a block", [5, 3, 6, 6]),
    ("one pixel", [6, 20, 1, 1]),
    ("large planes", [2, 3, 150, 131]),
    ("many small planes", [40, 100, 2, 3]),
];

/// Where tensors lie: plain, or in blocks of so many channels.
const BLOCKS: [usize; 3] = [1, 8, 16];

fn laid(tensor: &Tensor, block: usize) -> Tensor {
    if block == 1 { tensor.clone() } else { to_blocks(tensor, block) }
}

fn attrs(channels: usize, block: usize) -> [(&'static str, Attr); 2] {
    [("channels", channels), ("block", block)].map(|(name, n)| (name, Attr::Int(i64::try_from(n).unwrap())))
}

/// Returns the elements of each channel, as f64.
fn by_channel(tensor: &Tensor) -> Vec<Vec<f64>> {
    let &[_, channels, h, w] = tensor.shape() else { panic!("images have four axes") };
    let mut found = vec![Vec::new(); channels];
    for (i, value) in tensor.to_f32().unwrap().into_iter().enumerate() {
        found[i / (h * w) % channels].push(f64::from(value));
    }
    found
}

fn of_channels(numbers: impl Iterator<Item = f64>) -> Tensor {
    let numbers: Vec<f32> = numbers.map(|n| n as f32).collect();
    Tensor::from_f32(&[numbers.len()], &numbers)
}

/// Returns normal elements, of which those of each channel have another mean.
fn shifted(shape: &[usize], by: f32) -> Tensor {
    let mut values = normal(shape, 1).to_f32().unwrap();
    let plane: usize = shape[2..].iter().product();
    for (i, value) in values.iter_mut().enumerate() {
        let channel = (i / plane % shape[1]) as f32;
        *value += by * (1.0 + channel / 7.0);
    }
    Tensor::from_f32(shape, &values)
}

#[test]
fn moments_are_those_of_each_channel() {
    let mut failed = Vec::new();
    for (name, shape) in SHAPES {
        for (by, tolerance) in [(0.3, TOLERANCE), (1000.0, OF_LARGE_MEANS)] {
            let x = shifted(shape, by);
            let channels = by_channel(&x);
            let mean = |x: &Vec<f64>| x.iter().sum::<f64>() / x.len() as f64;
            let variance = |x: &Vec<f64>| mean(&x.iter().map(|v| (v - mean(x)).powi(2)).collect());
            let expected = [of_channels(channels.iter().map(mean)), of_channels(channels.iter().map(variance))];
            for block in BLOCKS {
                let x = laid(&x, block);
                let graph = single("ChannelMoments", &[x.shape()], 2, attrs(shape[1], block));
                let found = run_alike(&graph, &[x]).unwrap();
                let errors = [0, 1].map(|i| relative_rms(&found[i], &expected[i]));
                if !(errors[0] <= TOLERANCE && errors[1] <= tolerance) {
                    failed.push(format!("{name} by {by}, blocks of {block}: off by {errors:?}"));
                }
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

/// Returns the tensor that a function of the channel and two elements makes.
fn map(x: &Tensor, f: impl Fn(usize, f64) -> f64) -> Tensor {
    let &[_, channels, h, w] = x.shape() else { panic!("images have four axes") };
    let values = x.to_f32().unwrap().into_iter().enumerate();
    let values: Vec<f32> = values.map(|(i, v)| f(i / (h * w) % channels, f64::from(v)) as f32).collect();
    Tensor::from_f32(x.shape(), &values)
}

#[test]
fn affine_maps_and_their_gradients_are_those_of_each_channel() {
    let mut failed = Vec::new();
    for (name, shape) in SHAPES {
        let (x, dy, a, b) = (normal(shape, 1), normal(shape, 2), normal(&[shape[1]], 3), normal(&[shape[1]], 4));
        let [factors, shifts] = [&a, &b].map(|t| t.to_f32().unwrap().into_iter().map(f64::from).collect::<Vec<_>>());
        let y = map(&x, |c, x| factors[c] * x + shifts[c]);
        let dx = map(&dy, |c, dy| factors[c] * dy);
        let pairs: Vec<_> = by_channel(&x).into_iter().zip(by_channel(&dy)).collect();
        let da = of_channels(pairs.iter().map(|(x, dy)| x.iter().zip(dy).map(|(x, dy)| x * dy).sum()));
        let db = of_channels(pairs.iter().map(|(_, dy)| dy.iter().sum()));
        for block in BLOCKS {
            // A shift must not reach what fills up a block, and padding must be exactly zero.
            let (x, dy, y, dx) = (laid(&x, block), laid(&dy, block), laid(&y, block), laid(&dx, block));
            let attrs = attrs(shape[1], block);
            let forward = single("ChannelAffine", &[x.shape(), a.shape(), b.shape()], 1, attrs.clone());
            let backward = single("ChannelAffineGradient", &[x.shape(), a.shape(), x.shape()], 3, attrs);
            let found = run_alike(&forward, &[x.clone(), a.clone(), b.clone()]).unwrap();
            let back = run_alike(&backward, &[x, a.clone(), dy]).unwrap();
            for (what, found, expected) in
                [("y", &found[0], &y), ("dx", &back[0], &dx), ("da", &back[1], &da), ("db", &back[2], &db)]
            {
                let error = relative_rms(found, expected);
                let outside = |(f, e): (f32, f32)| e == 0.0 && f != 0.0;
                let leaks = found.to_f32().unwrap().into_iter().zip(expected.to_f32().unwrap()).any(outside);
                if error.is_nan() || error > TOLERANCE || leaks {
                    failed.push(format!("{name}, blocks of {block}: {what} off by {error:.1e}, leaks: {leaks}"));
                }
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
