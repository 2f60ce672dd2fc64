//! Small generators that map latents to a batch of inputs. Image synthesis trains a new one for each batch, with its
//! latents (Li et al. 2023, Genie); adversarial recipes draw latents anew in every step.

use rand::RngExt;

use super::input_spec::InputSpec;
use crate::error::Result;
use crate::expr::{Builder, Expr, index};
use crate::ir::{Attr, Tensor};
use crate::stats::InputStatistics;
use crate::train::{RandomStream, TrainedVector};

/// The largest side of the first feature map, unless images are so small that a quarter of their side is less.
const FIRST_SIDE: usize = 8;
/// The least number of upsampling steps.
const DOUBLINGS: u32 = 2;
/// Channel counts of the last hidden feature map, largest first.
const WIDTHS: [usize; 5] = [64, 32, 16, 8, 4];
/// The most channels of any feature map.
const WIDEST: usize = 256;
/// A generator may use one part in this many of the teacher's multiply-accumulates, where a smaller width is available.
const SHARE_OF_TEACHER: u64 = 2;
const EPSILON: f32 = 1e-5;
const SLOPE: f32 = 0.2;

/// A generator: its architecture and initial weights.
#[derive(Clone, Debug)]
pub struct Generator {
    spec: InputSpec,
    /// Channels of the feature maps, from the first to the one before the last convolution; empty for vectors.
    widths: Vec<usize>,
    /// Weights.
    pub weights: TrainedVector,
    input: InputStatistics,
}

impl Generator {
    /// The number of latents per image.
    pub const LATENTS: usize = 256;

    /// Returns a generator of inputs of the form `spec` with the statistics `input`. `stream` determines its initial
    /// weights; the image size and the teacher's `macs` per sample determine its size.
    ///
    /// # Errors
    /// When it has more weights than fit in memory.
    pub fn new(spec: &InputSpec, input: &InputStatistics, macs: u64, stream: RandomStream) -> Result<Self> {
        let widths = widths(spec, macs);
        let mut made = Self { spec: spec.clone(), widths, weights: TrainedVector::default(), input: input.clone() };
        let mut rng = stream.at(u64::MAX - 1);
        // PyTorch's initialization of linear layers and convolutions.
        let mut uniform = |n: usize, fan_in: usize| -> Vec<f32> {
            let bound = 1.0 / float(fan_in).sqrt();
            (0..n).map(|_| rng.random_range(-bound..bound)).collect()
        };
        for (name, shape, kind) in made.shapes() {
            let n: usize = shape.iter().product();
            let start = match kind {
                Start::Weight(fan_in) => uniform(n, fan_in),
                Start::Value(value) => vec![value; n],
            };
            made.weights.add(&name, &shape, &start, &vec![1.0; n])?;
        }
        Ok(made)
    }

    /// Returns the multiply-accumulates per input.
    pub fn macs(&self) -> u64 {
        work(&self.spec, &self.widths)
    }

    /// Returns name, shape and initial values of each weight, in the order of [`Generator::forward`].
    fn shapes(&self) -> Vec<(String, Vec<usize>, Start)> {
        let channels = self.spec.channels();
        let mut shapes = Vec::new();
        let norm = |shapes: &mut Vec<_>, name: &str, width: usize| {
            shapes.push((format!("{name}.gain"), vec![width], Start::Value(1.0)));
            shapes.push((format!("{name}.shift"), vec![width], Start::Value(0.0)));
        };
        let (first, area) = match self.widths.first() {
            Some(&width) => (width, self.spec.first_map(self.doublings()).iter().product()),
            None => (Self::LATENTS, 1),
        };
        shapes.push(("first".to_owned(), vec![Self::LATENTS, first * area], Start::Weight(Self::LATENTS)));
        norm(&mut shapes, "first", first);
        let mut width = first;
        for (i, &next) in self.widths.iter().enumerate().skip(1) {
            shapes.push((format!("conv{i}"), vec![next, width, 3, 3], Start::Weight(9 * width)));
            norm(&mut shapes, &format!("conv{i}"), next);
            width = next;
        }
        let last = if self.widths.is_empty() { vec![width, channels] } else { vec![channels, width, 3, 3] };
        shapes.push(("last".to_owned(), last, Start::Weight(if self.widths.is_empty() { width } else { 9 * width })));
        shapes.push(("mean".to_owned(), vec![channels], Start::Value(0.0)));
        shapes.push(("std".to_owned(), vec![channels], Start::Value(0.0)));
        shapes
    }

    fn doublings(&self) -> u32 {
        u32::try_from(self.widths.len()).unwrap_or(0)
    }

    /// Returns the inputs that `weights: [n]` make of `latents: [N, LATENTS]`: `[N, C, H, W]` (or `[N, C]`), scaled and
    /// clipped to the interval of the network's input.
    ///
    /// Latents are projected to a small feature map, which is upsampled by 2 and convolved repeatedly, with batch
    /// normalization each time. The output passes `tanh`, batch normalization, and an affine map with the mean and
    /// standard deviation of each channel, which start as those of the network's input and are trained.
    #[track_caller]
    pub fn forward<'b>(&self, weights: Expr<'b>, latents: Expr<'b>) -> Expr<'b> {
        let builder = weights.builder();
        let [batch, _] = latents.dims();
        let mut weights = self.weights.layout.split(weights).into_iter();
        let mut next = || weights.next().unwrap_or_else(|| builder.mistaken());
        let mut h = latents.matmul(next());
        if let Some(&width) = self.widths.first() {
            let [rows, columns] = self.spec.first_map(self.doublings());
            h = h.reshape(&[batch, width, rows, columns]);
        }
        h = h.batch_norm(next(), next(), EPSILON).y;
        if self.widths.is_empty() {
            h = leaky(h).matmul(next());
        }
        for i in 0..self.widths.len() {
            h = convolved(doubled(h), next());
            if i + 1 < self.widths.len() {
                h = leaky(h.batch_norm(next(), next(), EPSILON).y);
            }
        }
        let h = self.spec.cut(h.tanh());
        let (ones, zeros) = (self.channelwise(builder, |_| 1.0), self.channelwise(builder, |_| 0.0));
        let h = h.batch_norm(ones, zeros, EPSILON).y;
        let mean = self.channelwise(builder, |c| self.input.channel(c).0);
        let std = self.channelwise(builder, |c| self.input.channel(c).1);
        let (shift, stretch) = (next(), next());
        let inputs = h.channel_affine(std * stretch.exp(), mean + std * shift);
        inputs.clip(self.input.lo as f32, self.input.hi as f32)
    }

    fn channelwise<'b>(&self, builder: &'b Builder, value: impl Fn(usize) -> f64) -> Expr<'b> {
        let values: Vec<f32> = (0..self.spec.channels()).map(|c| value(c) as f32).collect();
        builder.constant("input", Tensor::from_f32(&[values.len()], &values))
    }
}

/// The initial value of a weight.
enum Start {
    /// Uniform, by the given fan-in.
    Weight(usize),
    /// A constant.
    Value(f32),
}

/// Returns the channels of the feature maps, halved at each upsampling step.
fn widths(spec: &InputSpec, teacher: u64) -> Vec<usize> {
    let Some(doublings) = spec.doublings(FIRST_SIDE, DOUBLINGS) else { return Vec::new() };
    let of = |last: usize| -> Vec<usize> {
        (0..doublings).rev().map(|i| last.checked_shl(i).unwrap_or(WIDEST).min(WIDEST)).collect()
    };
    let fits = |width: &usize| work(spec, &of(*width)) <= teacher / SHARE_OF_TEACHER;
    of(WIDTHS.into_iter().find(fits).unwrap_or(WIDTHS[WIDTHS.len() - 1]))
}

fn work(spec: &InputSpec, widths: &[usize]) -> u64 {
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    let Some(&first) = widths.first() else {
        return count(Generator::LATENTS * (Generator::LATENTS + spec.channels()));
    };
    let [mut rows, mut columns] = spec.first_map(u32::try_from(widths.len()).unwrap_or(0));
    let mut macs = count(Generator::LATENTS * first) * count(rows * columns);
    let next = widths.iter().skip(1).copied().chain([spec.channels()]);
    for (&width, next) in widths.iter().zip(next) {
        (rows, columns) = (2 * rows, 2 * columns);
        macs += 9 * count(width * next) * count(rows * columns);
    }
    macs
}

fn leaky(x: Expr) -> Expr {
    x.builder().apply("LeakyRelu", &[x], [("alpha", Attr::Float(SLOPE))])
}

/// Returns `x` upsampled by 2 with nearest neighbors.
#[track_caller]
fn doubled(x: Expr) -> Expr {
    let [_, _, rows, columns] = x.dims();
    let twice = |n: usize| x.builder().ints(&(0..2 * n).map(|i| index(i / 2)).collect::<Vec<_>>());
    x.select(twice(rows), twice(columns))
}

#[track_caller]
fn convolved<'b>(x: Expr<'b>, w: Expr<'b>) -> Expr<'b> {
    let attrs = [("kernel_shape", vec![3, 3].into()), ("pads", Attr::Ints(vec![1; 4]))];
    x.builder().apply("Conv", &[x, w], attrs)
}

fn float(n: usize) -> f32 {
    n as f32
}
