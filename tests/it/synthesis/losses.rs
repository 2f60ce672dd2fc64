//! Losses of images against f64 on the host, their gradients against differences of those.

use dfq_onnx::autodiff::gradients;
use dfq_onnx::expr::{Builder, Expr};
use dfq_onnx::ir::{DType, Tensor};
use dfq_onnx::runtime::{Engine, SessionOptions};
use dfq_onnx::stats::BatchNorm;
use dfq_onnx::train::losses::{
    ChannelMoments, ChannelNormal, Distance, activation_norm, argmax_one_hot, batch_entropy, cross_entropy,
    focal_cross_entropy, gaussian_divergence, image_statistics, instance_entropy, moment_distance, total_variation,
};

use crate::support::net::normal;
use crate::support::ort;

/// A few hundred terms in f32, of numbers around 1.
const TOLERANCE: f64 = 2e-5;
/// Slopes by differences in f64, of losses that are smooth there.
const SLOPE_TOLERANCE: f64 = 1e-4;
const STEP: f64 = 1e-5;

type Loss = for<'b> fn(Expr<'b>) -> Expr<'b>;
type Host = fn(&[f64]) -> f64;

const BATCH: usize = 4;
const CLASSES: usize = 6;
const IMAGES: [usize; 4] = [2, 3, 4, 5];

fn norm() -> BatchNorm {
    BatchNorm {
        input: "before".to_owned(),
        output: "x".to_owned(),
        mean: vec![0.3, -0.1, 5.0],
        variance: vec![4.0, 0.25, 0.0],
        // The last channel died: it does not vary, and nothing is asked of it.
        gamma: vec![0.5, -2.0, 1.0],
        beta: vec![0.2, 0.4, 0.7],
        epsilon: 1e-5,
    }
}

fn labels(builder: &Builder) -> Expr<'_> {
    let mut ones = vec![0.0; BATCH * CLASSES];
    (0..BATCH).for_each(|i| ones[i * CLASSES + LABELS[i]] = 1.0);
    builder.constant("labels", Tensor::from_f32(&[BATCH, CLASSES], &ones))
}

const LABELS: [usize; BATCH] = [2, 0, 5, 2];

fn log_softmax(row: &[f64]) -> Vec<f64> {
    let sum: f64 = row.iter().map(|v| v.exp()).sum();
    row.iter().map(|v| v - sum.ln()).collect()
}

fn labelled(values: &[f64], one: impl Fn(f64) -> f64) -> f64 {
    let rows = values.chunks(CLASSES).zip(LABELS);
    rows.map(|(row, label)| one(log_softmax(row)[label])).sum::<f64>() / BATCH as f64
}

/// Mean and biased variance of each channel of [`IMAGES`].
fn moments(values: &[f64]) -> Vec<(f64, f64)> {
    let [n, c, h, w] = IMAGES;
    let of = |channel: usize| {
        let own: Vec<f64> = (0..n).flat_map(|i| values[(i * c + channel) * h * w..][..h * w].to_vec()).collect();
        let mean = own.iter().sum::<f64>() / own.len() as f64;
        (mean, own.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / own.len() as f64)
    };
    (0..c).map(of).collect()
}

fn found(x: Expr<'_>) -> ChannelMoments<'_> {
    let (mean, variance) = x.channel_moments();
    ChannelMoments { mean, variance }
}

/// The distance of the two living channels, in units that `unit` makes of gamma, variance and epsilon.
fn distance(values: &[f64], unit: impl Fn(f64, f64) -> f64, slack: [f64; 2]) -> f64 {
    let norm = norm();
    let moments = moments(values);
    let channel = |c: usize| {
        let (gamma, variance) = (f64::from(norm.gamma[c]).abs(), f64::from(norm.variance[c]));
        let unit = unit(gamma, variance + 1e-5);
        let std = gamma * (variance / (variance + 1e-5)).sqrt();
        let (mean, spread) = moments[c];
        let off = (unit * (mean - f64::from(norm.beta[c]))).abs();
        let spread = ((unit * unit * spread + 1e-6).sqrt() - (unit * unit * std * std + 1e-6).sqrt()).abs();
        (off - slack[0]).max(0.0).powi(2) + (spread - slack[1]).max(0.0).powi(2)
    };
    (channel(0) + channel(1)) / 3.0
}

fn before(gamma: f64, variance: f64) -> f64 {
    variance.sqrt() / gamma
}

fn stds(gamma: f64, variance: f64) -> f64 {
    1.0 / (gamma * ((variance - 1e-5) / variance).sqrt())
}

/// Name, shape, loss and the same in f64.
const CASES: &[(&str, &[usize], Loss, Host)] = &[
    ("one-hot", &[BATCH, CLASSES], |x| cross_entropy(x, labels(x.builder())), |v| labelled(v, |log| -log)),
    (
        "focal",
        &[BATCH, CLASSES],
        |x| focal_cross_entropy(x, labels(x.builder()), 2.0),
        |v| labelled(v, |log| -(1.0 - log.exp()).powi(2) * log),
    ),
    (
        "surest class",
        &[BATCH, CLASSES],
        |x| cross_entropy(x, argmax_one_hot(x)),
        |v| {
            let rows = v.chunks(CLASSES).map(|row| log_softmax(row).into_iter().fold(f64::NEG_INFINITY, f64::max));
            -rows.sum::<f64>() / BATCH as f64
        },
    ),
    ("instance entropy", &[BATCH, CLASSES], instance_entropy, |v| {
        let rows = v.chunks(CLASSES).map(|row| log_softmax(row).iter().map(|log| -log.exp() * log).sum::<f64>());
        rows.sum::<f64>() / BATCH as f64
    }),
    ("batch entropy", &[BATCH, CLASSES], batch_entropy, |v| {
        let rows: Vec<Vec<f64>> = v.chunks(CLASSES).map(log_softmax).collect();
        let mean = |c: usize| rows.iter().map(|row| row[c].exp()).sum::<f64>() / BATCH as f64;
        (CLASSES as f64).ln() + (0..CLASSES).map(|c| mean(c) * mean(c).ln()).sum::<f64>()
    }),
    ("activation norm", &[3, 7], activation_norm, |v| -v.iter().map(|v| v.abs()).sum::<f64>() / 21.0),
    ("total variation", &IMAGES, total_variation, |v| {
        let at = |i: usize, y: usize, x: usize| v[(i * 4 + y) * 5 + x];
        let mut down = 0.0;
        let mut right = 0.0;
        for i in 0..6 {
            down += (0..3)
                .flat_map(|y| (0..5).map(move |x| (y, x)))
                .map(|(y, x)| (at(i, y + 1, x) - at(i, y, x)).abs())
                .sum::<f64>();
            right += (0..4)
                .flat_map(|y| (0..4).map(move |x| (y, x)))
                .map(|(y, x)| (at(i, y, x + 1) - at(i, y, x)).abs())
                .sum::<f64>();
        }
        down / 90.0 + right / 96.0
    }),
    ("image statistics", &IMAGES, image_statistics, |v| {
        let plane = |plane: &[f64]| {
            let mean = plane.iter().sum::<f64>() / 20.0;
            let variance = plane.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 20.0;
            mean * mean + ((variance + 1e-6).sqrt() - 1.0).powi(2)
        };
        v.chunks(20).map(plane).sum::<f64>() / 6.0
    }),
    (
        "moments before normalisation",
        &IMAGES,
        |x| moment_distance(found(x), &ChannelNormal::of(&norm()), Distance::BeforeNormalisation, [0.0; 2]),
        |v| distance(v, before, [0.0; 2]),
    ),
    (
        "moments in deviations",
        &IMAGES,
        |x| moment_distance(found(x), &ChannelNormal::of(&norm()), Distance::Deviations, [0.0; 2]),
        |v| distance(v, stds, [0.0; 2]),
    ),
    (
        "moments with slack",
        &IMAGES,
        |x| moment_distance(found(x), &ChannelNormal::of(&norm()), Distance::BeforeNormalisation, [0.5, 0.2]),
        |v| distance(v, before, [0.5, 0.2]),
    ),
    (
        "divergence",
        &IMAGES,
        |x| gaussian_divergence(found(x), &ChannelNormal::of(&norm())),
        |v| {
            let norm = norm();
            let channel = |(c, (mean, variance)): (usize, (f64, f64))| {
                let (gamma, before) = (f64::from(norm.gamma[c]), f64::from(norm.variance[c]));
                let expected = gamma * gamma * before / (before + 1e-5);
                let ratio = variance / expected + 1e-6;
                ((mean - f64::from(norm.beta[c])).powi(2) / expected + ratio - ratio.ln() - 1.0) / 2.0
            };
            moments(v).into_iter().enumerate().take(2).map(channel).sum::<f64>() / 3.0
        },
    ),
];

#[test]
fn losses_and_their_gradients_are_those_of_the_formulas() {
    let mut failed = Vec::new();
    for (i, (name, shape, loss, host)) in CASES.iter().enumerate() {
        let builder = Builder::new("loss");
        let x = builder.input("x", DType::F32, shape);
        let made = loss(x);
        let slopes = gradients(made, &[x]).unwrap();
        let graph = builder.finish(&[("loss", made), ("slopes", slopes[0])]).unwrap();
        let values = normal(shape, 1.0, 30 + i as u64);
        let outputs =
            ort().load(&graph, &SessionOptions::default()).unwrap().run(std::slice::from_ref(&values)).unwrap();
        let values: Vec<f64> = values.to_f32().unwrap().into_iter().map(f64::from).collect();
        let (expected, given) = (host(&values), f64::from(outputs[0].to_f32().unwrap()[0]));
        if (given - expected).abs() > TOLERANCE * expected.abs().max(0.1) {
            failed.push(format!("{name}: {given}, expected {expected}"));
        }
        let largest = outputs[1].to_f32().unwrap().iter().fold(0.0f32, |m, v| m.max(v.abs()));
        for (place, slope) in outputs[1].to_f32().unwrap().into_iter().enumerate() {
            let at = |by: f64| {
                let mut moved = values.clone();
                moved[place] += by;
                host(&moved)
            };
            let expected = (at(STEP) - at(-STEP)) / (2.0 * STEP);
            if (f64::from(slope) - expected).abs() > SLOPE_TOLERANCE * f64::from(largest).max(0.1) {
                failed.push(format!("{name}: slope {place} is {slope}, expected {expected}"));
                break;
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn what_has_the_statistics_already_costs_nothing_and_a_dead_channel_never_does() {
    let norm = BatchNorm { beta: vec![0.0; 3], ..norm() };
    let normal = ChannelNormal::of(&norm);
    assert_eq!(normal.before[2], 0.0);
    let builder = Builder::new("loss");
    let x = builder.input("x", DType::F32, &[2, 3]);
    let terms = [
        moment_distance(found(x), &normal, Distance::BeforeNormalisation, [0.0; 2]),
        moment_distance(found(x), &normal, Distance::Deviations, [0.0; 2]),
        gaussian_divergence(found(x), &normal),
    ];
    let names = ["a", "b", "c"];
    let outputs: Vec<(&str, Expr)> = names.into_iter().zip(terms).collect();
    let graph = builder.finish(&outputs).unwrap();
    // Two values, one deviation to each side of the mean.
    let [a, b] = [normal.std[0], normal.std[1]];
    for last in [0.0f32, 1e9] {
        let x = Tensor::from_f32(&[2, 3], &[a, b, last, -a, -b, -last]);
        let found = ort().load(&graph, &SessionOptions::default()).unwrap().run(&[x]).unwrap();
        let losses: Vec<f32> = found.iter().map(|t| t.to_f32().unwrap()[0]).collect();
        assert!(losses.iter().all(|loss| loss.abs() < 1e-5), "{losses:?}");
    }
}
