//! Small networks that make a batch of inputs of trained latents: a fresh one for each batch (Li et al. 2023, Genie).

use rand::RngExt;
use rand_distr::StandardNormal;

use super::input_spec::InputSpec;
use crate::error::{Error, Result};
use crate::expr::{Builder, Expr, index};
use crate::ir::{Attr, Tensor};
use crate::stats::InputStatistics;
use crate::train::{TrainedVector, step_rng};

/// Latents of a batch at most: a gigabyte of them.
const MOST_LATENTS: usize = 1 << 28;
/// The learning rate of latents over that of the generator.
const LATENT_RATE: f32 = 10.0;
/// The side of the map that latents become, at most, unless images are so small that it is a quarter of theirs.
const FIRST_SIDE: usize = 8;
/// Doublings of the map at least.
const DOUBLINGS: u32 = 2;
/// Channels of the map before the last convolution, largest first.
const WIDTHS: [usize; 5] = [64, 32, 16, 8, 4];
/// Channels of any map at most.
const WIDEST: usize = 256;
/// The multiply-accumulates of a generator over those of the teacher, at most, where there is a choice.
const SHARE_OF_TEACHER: u64 = 2;
const EPSILON: f32 = 1e-5;
const SLOPE: f32 = 0.2;

/// A generator of one batch: what it is made of, and what training starts from.
#[derive(Clone, Debug)]
pub struct Generator {
    form: InputSpec,
    batch: usize,
    /// Channels of the maps, from the first to that before the last convolution; empty for vectors.
    widths: Vec<usize>,
    /// Weights.
    pub weights: TrainedVector,
    /// Latents, and where it is conditional a vector for each class.
    pub latents: TrainedVector,
    input: InputStatistics,
}

impl Generator {
    /// Latents of one image.
    pub const LATENTS: usize = 256;

    /// Returns a generator of `batch` inputs of `form`, whose weights and latents follow from seed and `number`, sized by
    /// the size of images and the teacher's work of `macs` a sample. `classes`: whether what it makes depends on a class
    /// that is chosen for each input.
    ///
    /// # Errors
    /// When it has more weights than memory holds.
    pub fn fresh(
        (form, input): (&InputSpec, &InputStatistics),
        (batch, macs): (usize, u64),
        classes: Option<usize>,
        (seed, number): (u64, u64),
    ) -> Result<Self> {
        let widths = widths(form, macs);
        if batch.checked_mul(Self::LATENTS).is_none_or(|latents| latents > MOST_LATENTS) {
            return Err(Error::Resources(format!("{batch} images at a time do not fit in memory; try --batch 128")));
        }
        let (weights, latents) = (TrainedVector::default(), TrainedVector::default());
        let (form, input) = (form.clone(), input.clone());
        let mut made = Self { form, batch, widths, weights, latents, input };
        let mut rng = step_rng(seed, number, u64::MAX);
        let mut normal = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.sample(StandardNormal)).collect() };
        let latents = normal(batch * Self::LATENTS);
        made.latents.add("latents", &[batch, Self::LATENTS], &latents, &vec![LATENT_RATE; latents.len()])?;
        if let Some(classes) = classes {
            let rows = normal(classes * Self::LATENTS);
            made.latents.add("classes", &[classes, Self::LATENTS], &rows, &vec![LATENT_RATE; rows.len()])?;
        }
        let mut rng = step_rng(seed, number, u64::MAX - 1);
        // As PyTorch initialises linear layers and convolutions.
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

    /// Returns the multiply-accumulates of one input.
    pub fn macs(&self) -> u64 {
        work(&self.form, &self.widths)
    }

    /// Returns name, shape and start of each weight, in the order of [`Generator::forward`].
    fn shapes(&self) -> Vec<(String, Vec<usize>, Start)> {
        let channels = self.form.channels();
        let mut shapes = Vec::new();
        let norm = |shapes: &mut Vec<_>, name: &str, width: usize| {
            shapes.push((format!("{name}.gain"), vec![width], Start::Value(1.0)));
            shapes.push((format!("{name}.shift"), vec![width], Start::Value(0.0)));
        };
        let (first, area) = match self.widths.first() {
            Some(&width) => (width, self.form.first_map(self.doublings()).iter().product()),
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
        shapes.push(("deviation".to_owned(), vec![channels], Start::Value(0.0)));
        shapes
    }

    fn doublings(&self) -> u32 {
        u32::try_from(self.widths.len()).unwrap_or(0)
    }

    /// Returns what `weights: [n]` and `latents: [m]` make: inputs `[N, C, H, W]` (or `[N, C]`) as the network is fed
    /// them, within the interval that it is fed. `labels: [N, classes]` where it is conditional.
    ///
    /// Latents (times the vector of the class; Xu et al. 2020, GDFQ) become a small map, that is doubled and convolved in
    /// turn, normalised over the batch each time; `tanh` of the last is normalised and given each channel's mean and
    /// deviation, which start as those of the network's input and are trained.
    #[track_caller]
    pub fn forward<'b>(
        &self,
        builder: &'b Builder,
        (weights, latents): (Expr<'b>, Expr<'b>),
        labels: Option<Expr<'b>>,
    ) -> Expr<'b> {
        let latents = self.latents.layout.split(latents);
        let weights = self.weights.layout.split(weights);
        let mut weights = weights.into_iter();
        let mut next = || weights.next().unwrap_or_else(|| builder.mistaken());
        let z = match (latents.as_slice(), labels) {
            ([z, classes], Some(labels)) => *z * labels.matmul(*classes),
            (latents, _) => latents[0],
        };
        let mut h = z.matmul(next());
        if let Some(&width) = self.widths.first() {
            let [rows, columns] = self.form.first_map(self.doublings());
            h = h.reshape(&[self.batch, width, rows, columns]);
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
        let h = self.form.cut(h.tanh());
        let (ones, zeros) = (self.channelwise(builder, |_| 1.0), self.channelwise(builder, |_| 0.0));
        let h = h.batch_norm(ones, zeros, EPSILON).y;
        let mean = self.channelwise(builder, |c| self.input.channel(c).0);
        let deviation = self.channelwise(builder, |c| self.input.channel(c).1);
        let (shift, stretch) = (next(), next());
        let inputs = h.channel_affine(deviation * stretch.exp(), mean + deviation * shift);
        inputs.clip(self.input.lo as f32, self.input.hi as f32)
    }

    fn channelwise<'b>(&self, builder: &'b Builder, value: impl Fn(usize) -> f64) -> Expr<'b> {
        let values: Vec<f32> = (0..self.form.channels()).map(|c| value(c) as f32).collect();
        builder.constant("input", Tensor::from_f32(&[values.len()], &values))
    }
}

/// What a weight starts from.
enum Start {
    /// Uniform numbers by the inputs of each result.
    Weight(usize),
    /// A number.
    Value(f32),
}

/// Returns the channels of the maps: half as many each time the side doubles.
fn widths(form: &InputSpec, teacher: u64) -> Vec<usize> {
    let Some(doublings) = form.doublings(FIRST_SIDE, DOUBLINGS) else { return Vec::new() };
    let of = |last: usize| -> Vec<usize> {
        (0..doublings).rev().map(|i| last.checked_shl(i).unwrap_or(WIDEST).min(WIDEST)).collect()
    };
    let fits = |width: &usize| work(form, &of(*width)) <= teacher / SHARE_OF_TEACHER;
    of(WIDTHS.into_iter().find(fits).unwrap_or(WIDTHS[WIDTHS.len() - 1]))
}

fn work(form: &InputSpec, widths: &[usize]) -> u64 {
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    let Some(&first) = widths.first() else {
        return count(Generator::LATENTS * (Generator::LATENTS + form.channels()));
    };
    let [mut rows, mut columns] = form.first_map(u32::try_from(widths.len()).unwrap_or(0));
    let mut macs = count(Generator::LATENTS * first) * count(rows * columns);
    let next = widths.iter().skip(1).copied().chain([form.channels()]);
    for (&width, next) in widths.iter().zip(next) {
        (rows, columns) = (2 * rows, 2 * columns);
        macs += 9 * count(width * next) * count(rows * columns);
    }
    macs
}

fn leaky(x: Expr) -> Expr {
    x.builder().apply("LeakyRelu", &[x], [("alpha", Attr::Float(SLOPE))])
}

/// Returns every pixel twice in both directions.
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
