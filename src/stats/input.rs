//! Statistics of the network's input: given by the user, inferred from the first layer's statistics, or assumed.

use std::collections::HashSet;

use serde::Serialize;

use super::{BatchNorm, ClippedNormal, Moments};
use crate::data::{InputKind, InputMoments, image_channels, input_kind, synthetic_inputs};
use crate::error::{Error, Result};
use crate::ir::{DType, Graph, Node, Tensor, ValueId};

/// Correlation of neighbouring pixels of natural images, per pixel of distance, and of color channels.
const PIXEL_CORRELATION: f64 = 0.95;
const COLOUR_CORRELATION: f64 = 0.9;
/// The factor on the contrast of images for verdicts: of plain, stronger and zoomed dead leaves, blends and noise,
/// these rank networks best by their real loss.
const STRONG_CONTRAST: f64 = 1.6;
/// Mean and standard deviation of pixels of natural images on a scale of 0 to 1.
const PIXEL: (f64, f64) = (0.45, 0.25);

/// The source of the statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum InputSource {
    /// The user gave them.
    Given,
    /// They follow from the first layer's weights and batch-normalization statistics.
    FirstLayer,
    /// The input takes images as bytes.
    Bytes,
    /// They are those of the user's own inputs.
    Data,
    /// They follow from the graph: rows of a table, sizes of images, zeros and ones.
    Graph,
    /// They are unknown; normalized inputs are assumed.
    Assumed,
}

impl InputSource {
    /// Returns whether this is a guess, which only the user can confirm.
    pub fn is_guess(self) -> bool {
        self == Self::Assumed
    }
}

/// The scales of image inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum InputScale {
    /// Mean about 0 and standard deviation about 1 per channel.
    Normalised,
    /// 0 to 1.
    Unit,
    /// -1 to 1.
    SignedUnit,
    /// 0 to 255.
    Raw,
    /// An interval that the user gave.
    Custom,
    /// Preprocessed as the user specified.
    Preprocessed,
}

/// Mean, deviation and interval of the network's input, per channel or one for all.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct InputStatistics {
    /// Mean per channel.
    pub mean: Vec<f64>,
    /// Standard deviation per channel.
    pub std: Vec<f64>,
    /// Smallest input value.
    pub lo: f64,
    /// Largest input value.
    pub hi: f64,
    /// The scale.
    pub scale: InputScale,
    /// Its source.
    pub source: InputSource,
}

impl InputStatistics {
    /// Returns the statistics of inputs normalized to mean 0 and deviation 1.
    pub fn assumed() -> Self {
        Self::of_scale(InputScale::Normalised, InputSource::Assumed)
    }

    fn of_scale(scale: InputScale, source: InputSource) -> Self {
        let (lo, hi, mean, std) = match scale {
            InputScale::Normalised | InputScale::Custom | InputScale::Preprocessed => (-2.5, 3.0, 0.0, 1.0),
            InputScale::Unit => (0.0, 1.0, PIXEL.0, PIXEL.1),
            InputScale::SignedUnit => (-1.0, 1.0, 2.0 * PIXEL.0 - 1.0, 2.0 * PIXEL.1),
            InputScale::Raw => (0.0, 255.0, 255.0 * PIXEL.0, 255.0 * PIXEL.1),
        };
        Self { mean: vec![mean], std: vec![std], lo, hi, scale, source }
    }

    /// Returns the statistics of inputs in `lo..=hi`.
    pub fn of_interval(lo: f64, hi: f64) -> Self {
        let (mean, std) = (lo + PIXEL.0 * (hi - lo), PIXEL.1 * (hi - lo));
        Self { mean: vec![mean], std: vec![std], lo, hi, scale: InputScale::Custom, source: InputSource::Given }
    }

    /// Returns the statistics of pixels `0..=255` times `scale`, minus `mean`, over `std`, per channel.
    pub fn of_preprocessing(mean: &[f64], std: &[f64], scale: f64) -> Self {
        let n = mean.len().max(std.len()).max(1);
        let at = |v: &[f64], i: usize, default: f64| *v.get(i).or(v.last()).unwrap_or(&default);
        let map = |pixel: f64, i: usize| (pixel * 255.0 * scale - at(mean, i, 0.0)) / at(std, i, 1.0);
        Self {
            mean: (0..n).map(|i| map(PIXEL.0, i)).collect(),
            std: (0..n).map(|i| PIXEL.1 * 255.0 * scale / at(std, i, 1.0)).collect(),
            lo: (0..n).map(|i| map(0.0, i)).fold(f64::INFINITY, f64::min),
            hi: (0..n).map(|i| map(1.0, i)).fold(f64::NEG_INFINITY, f64::max),
            scale: InputScale::Preprocessed,
            source: InputSource::Given,
        }
    }

    /// Returns the same with deviations [`STRONG_CONTRAST`] times as large; the interval stays.
    #[must_use]
    pub fn of_strong_contrast(&self) -> Self {
        Self { std: self.std.iter().map(|std| STRONG_CONTRAST * std).collect(), ..self.clone() }
    }

    /// Returns mean and deviation of a channel.
    pub fn channel(&self, channel: usize) -> (f64, f64) {
        let of = |values: &[f64], default: f64| values.get(channel).or(values.last()).copied().unwrap_or(default);
        (of(&self.mean, 0.0), of(&self.std, 1.0))
    }

    /// Returns the mean deviation of channels.
    pub fn contrast(&self) -> f64 {
        self.std.iter().sum::<f64>() / self.std.len() as f64
    }

    /// Returns `tensor` with its values clipped to the interval; tensors of other types are unchanged.
    ///
    /// # Errors
    /// When the values cannot be read.
    pub fn clamp(&self, tensor: Tensor) -> Result<Tensor> {
        if !tensor.dtype().is_float() {
            return Ok(tensor);
        }
        let (lo, hi) = (self.lo as f32, self.hi as f32);
        let values: Vec<f32> = tensor.to_f32()?.into_iter().map(|v| v.clamp(lo, hi)).collect();
        Tensor::from_floats(tensor.dtype(), tensor.shape(), &values)
    }

    /// Checks that mean and deviation have one value, or one per channel, for every image input of `graph`.
    ///
    /// # Errors
    /// [`Error::Usage`].
    pub fn check_channels(&self, graph: &Graph) -> Result<()> {
        let given = self.mean.len().max(self.std.len());
        for id in graph.fed_inputs() {
            let shape = graph.value(id).shape.as_deref().unwrap_or_default();
            if let Some(channels) = image_channels(shape).and_then(|axis| shape[axis].known())
                && given > 1
                && given != channels
            {
                return Err(Error::Usage(format!(
                    "mean and std: {given} values, input \"{}\" has {channels} channel(s); give one value or one per channel",
                    graph.name_of(id)
                )));
            }
        }
        Ok(())
    }

    /// Returns `samples` synthetic samples with these statistics for every fed input of `graph`, independent of
    /// `threads`.
    ///
    /// # Errors
    /// When an input's shape is not known, or [`InputStatistics::check_channels`] fails.
    pub fn synthetic(&self, graph: &Graph, samples: usize, seed: u64, threads: usize) -> Result<Vec<Tensor>> {
        self.check_channels(graph)?;
        let narrow = |values: &[f64]| values.iter().map(|&v| v as f32).collect::<Vec<f32>>();
        let (mean, std) = (narrow(&self.mean), narrow(&self.std));
        let inputs = synthetic_inputs(graph, samples, InputMoments { mean: &mean, std: &std }, seed, threads)?;
        let fed = graph.fed_inputs();
        let described = |id: ValueId| is_network_input(graph, id);
        inputs.into_iter().zip(fed).map(|(t, id)| if described(id) { self.clamp(t) } else { Ok(t) }).collect()
    }

    /// Returns the moments of the input tensor.
    pub fn moments(&self) -> Moments {
        let channel = |(&mean, &std): (&f64, &f64)| ClippedNormal::new(mean, std).clip(self.lo, self.hi);
        Moments(self.mean.iter().zip(&self.std).map(channel).collect())
    }
}

/// Returns whether [`InputStatistics`] describe `id`, or the input of which it is a Cast: an image of floats or bytes,
/// or any features if the network has no image input.
pub fn is_network_input(graph: &Graph, id: ValueId) -> bool {
    let cast = graph.nodes.iter().find(|n| n.is("Cast") && n.output(0) == Some(id));
    let source = cast.and_then(|n| n.input(0)).unwrap_or(id);
    let fed = graph.fed_inputs();
    let is_image = |id: ValueId| matches!(input_kind(graph, id), InputKind::Image { .. });
    fed.contains(&source)
        && match input_kind(graph, source) {
            InputKind::Image { .. } => true,
            InputKind::Features => !fed.iter().any(|&id| is_image(id)),
            _ => false,
        }
}

/// Returns all values for which [`is_network_input`] holds.
fn network_inputs(graph: &Graph) -> HashSet<ValueId> {
    let fed = graph.fed_inputs();
    let casts = graph.nodes.iter().filter(|n| n.is("Cast") && n.input(0).is_some_and(|id| fed.contains(&id)));
    let ids = fed.iter().copied().chain(casts.filter_map(|n| n.output(0)));
    ids.filter(|&id| is_network_input(graph, id)).collect()
}

/// Returns the input's statistics, inferred from the first convolution and the normalization after it.
///
/// With weight `w`, bias `b` and running moments `m`, `v` of the convolution's result: `m = Σ w·μ + b` is solved for
/// the channel means `μ` by least squares, and `v = σ² · wᵀRw` for `σ`, `R` being the correlation of natural images.
/// The scale whose deviation is nearest to `σ` is chosen. Bytes are raw pixels. Without such a pair, inputs are assumed
/// normalized.
pub fn guess_input(graph: &Graph, norms: &[BatchNorm]) -> InputStatistics {
    let bytes = |id: &ValueId| graph.value(*id).dtype == Some(DType::U8) && is_network_input(graph, *id);
    if graph.fed_inputs().iter().any(bytes) {
        return InputStatistics::of_scale(InputScale::Raw, InputSource::Bytes);
    }
    let inputs = network_inputs(graph);
    let reads_input = |node: &&Node| node.input(0).is_some_and(|id| inputs.contains(&id));
    let found = graph.nodes.iter().filter(reads_input).find_map(|node| first_layer(graph, node, norms));
    let Some((mean, std)) = found else { return InputStatistics::assumed() };
    let scale = nearest_scale(&mean, std);
    let mut guess = InputStatistics::of_scale(scale, InputSource::FirstLayer);
    if scale == InputScale::Normalised {
        let centre = mean.iter().sum::<f64>() / mean.len().max(1) as f64;
        let (centre, std) = (centre.clamp(-0.5, 0.5), std.clamp(0.7, 1.4));
        guess.mean = vec![centre; mean.len()];
        guess.std = vec![std; mean.len()];
    }
    guess
}

fn nearest_scale(mean: &[f64], std: f64) -> InputScale {
    let centre = mean.iter().sum::<f64>() / mean.len().max(1) as f64;
    if std > 8.0 {
        return InputScale::Raw;
    }
    let distance = |scale: InputScale| {
        let typical = InputStatistics::of_scale(scale, InputSource::Assumed);
        (std / typical.std[0]).ln().abs() + (centre - typical.mean[0]).abs() / typical.std[0].max(std)
    };
    let candidates = [InputScale::Normalised, InputScale::Unit, InputScale::SignedUnit];
    candidates.into_iter().min_by(|a, b| distance(*a).total_cmp(&distance(*b))).unwrap_or(InputScale::Normalised)
}

fn first_layer(graph: &Graph, node: &Node, norms: &[BatchNorm]) -> Option<(Vec<f64>, f64)> {
    if !node.is("Conv") || node.attrs.int("group", 1) != 1 {
        return None;
    }
    let output = graph.name_of(node.output(0)?);
    let norm = norms.iter().find(|n| n.input == output)?;
    let weight = graph.constant_of(node.input(1)?)?;
    let [outputs, inputs, rows, columns] = *weight.shape() else { return None };
    let values = weight.to_f32().ok().filter(|_| norm.mean.len() == outputs && inputs <= 4)?;
    let bias = match node.input(2) {
        Some(id) => graph.constant_of(id)?.to_f32().ok()?,
        None => vec![0.0; outputs],
    };
    let taps = rows * columns;
    let sums: Vec<Vec<f64>> = (0..outputs)
        .map(|o| {
            (0..inputs).map(|i| values[(o * inputs + i) * taps..][..taps].iter().map(|&w| f64::from(w)).sum()).collect()
        })
        .collect();
    let target: Vec<f64> = norm.mean.iter().zip(&bias).map(|(&m, &b)| f64::from(m) - f64::from(b)).collect();
    let mean = least_squares(&sums, &target)?;
    let (mut above, mut below) = (0.0, 0.0);
    for o in 0..outputs {
        let unit = unit_variance(&values[o * inputs * taps..][..inputs * taps], taps, columns);
        above += unit * f64::from(norm.variance[o]);
        below += unit * unit;
    }
    let std = (above / below).sqrt();
    std.is_normal().then_some((mean, std))
}

/// The variance of a kernel's response to an image of unit variance with the correlations of natural images.
fn unit_variance(kernel: &[f32], taps: usize, columns: usize) -> f64 {
    let mut total = 0.0;
    for (i, &a) in kernel.iter().enumerate() {
        for (j, &b) in kernel.iter().enumerate() {
            let (p, q) = (i % taps, j % taps);
            let distance = (p / columns).abs_diff(q / columns) + (p % columns).abs_diff(q % columns);
            let colour = if i / taps == j / taps { 1.0 } else { COLOUR_CORRELATION };
            let correlation = colour * PIXEL_CORRELATION.powf(distance as f64);
            total += f64::from(a) * f64::from(b) * correlation;
        }
    }
    total.max(0.0)
}

/// Solves `min |A·x - y|²` by the normal equations, lightly regularised.
fn least_squares(a: &[Vec<f64>], y: &[f64]) -> Option<Vec<f64>> {
    let n = a.first()?.len();
    let mut system = vec![vec![0.0; n + 1]; n];
    for (row, target) in a.iter().zip(y) {
        for i in 0..n {
            for j in 0..n {
                system[i][j] += row[i] * row[j];
            }
            system[i][n] += row[i] * target;
        }
    }
    let trace: f64 = (0..n).map(|i| system[i][i]).sum();
    for (i, row) in system.iter_mut().enumerate() {
        row[i] += 1e-2 * trace / n as f64;
    }
    for i in 0..n {
        let pivot = system[i][i];
        if !pivot.is_normal() {
            return None;
        }
        for j in 0..n {
            if j != i {
                let factor = system[j][i] / pivot;
                let pivot_row = system[i].clone();
                system[j].iter_mut().zip(&pivot_row).for_each(|(v, p)| *v -= factor * p);
            }
        }
    }
    Some((0..n).map(|i| system[i][n] / system[i][i]).collect())
}
