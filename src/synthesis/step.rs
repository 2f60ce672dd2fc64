//! The training step of a generator and its latents as a graph, and its feeds.

use rand_chacha::ChaCha8Rng;

use super::generator::Generator;
use super::latents::Latents;
use super::options::Options;
use super::stage::SynthesisContext;
use super::teacher::SynthesisTeacher;
use super::terms::{Compared, LossInputs, Weights, loss, weights};
use crate::error::Result;
use crate::expr::{Builder, Expr, Inlined, Lowering, index, inline};
use crate::ir::{DType, Graph, Tensor};
use crate::stats::InputStatistics;
use crate::train::losses::{ChannelMoments, Distance, moments_off};
use crate::train::{
    Feed, Optimiser, Player, RandomStream, Scope, StepParts, TrainingStep, mirrored, random_flip_shift, shifted,
    training_step,
};

/// The fraction of channels whose distance on noise exceeds the slack.
const BEYOND_SLACK: f64 = 0.1;

/// A generator with the latents of one batch, and the classes of its images, `[N, classes]`, where they have any.
#[derive(Clone, Debug)]
pub struct Maker {
    /// The generator.
    pub generator: Generator,
    /// Its latents.
    pub latents: Latents,
    /// One-hot classes.
    pub labels: Option<Tensor>,
}

/// A batch of images as expressions.
struct Made<'b> {
    weights: Expr<'b>,
    latents: Expr<'b>,
    labels: Option<Expr<'b>>,
    /// `[N, C, H, W]`, or `[N, C]` for vectors.
    images: Expr<'b>,
}

/// The image synthesis of one network.
#[derive(Clone, Debug)]
pub struct ImageSynthesis {
    /// The network.
    pub teacher: SynthesisTeacher,
    /// The weights of the loss terms.
    pub weights: Weights,
    /// The slack of each of [`SynthesisTeacher::normals`], for means and for standard deviations; empty for none.
    pub slack: Vec<[f32; 2]>,
    /// Whether the inputs of strided convolutions are shifted by up to a pixel (swing; Li et al. 2023, Genie).
    pub swing: bool,
    /// Whether images are flipped and shifted (Zhong et al. 2022, IntraQ, which crops them).
    pub augment: bool,
    /// The standard deviation in pixels of the Gaussian low-pass filter (Kim et al. 2025, SynQ, which gives its
    /// frequency); 0 for none.
    pub low_pass: f64,
    /// The network's other inputs, by name, for a batch.
    pub others: Vec<(String, Tensor)>,
    /// The known statistics of the network's image input.
    pub input: InputStatistics,
}

impl ImageSynthesis {
    /// Returns the synthesis for the network of `source`, still without slack and other inputs.
    ///
    /// # Errors
    /// As [`SynthesisTeacher::new`]; [`crate::Error::Usage`] for an unknown loss term.
    pub fn new(source: &SynthesisContext, options: &Options) -> Result<Self> {
        let teacher = SynthesisTeacher::new(source.float, source.norms)?;
        Ok(Self {
            weights: weights(&options.loss, !teacher.normals.is_empty())?,
            slack: Vec::new(),
            swing: options.swing,
            augment: options.augment,
            low_pass: options.low_pass,
            others: Vec::new(),
            input: source.input.clone(),
            teacher,
        })
    }

    /// Returns the training step of a generator and its latents.
    ///
    /// # Errors
    /// An operator that is not differentiable, by node; see [`loss`].
    pub fn step(&self, maker: &Maker, lowering: &Lowering) -> Result<TrainingStep> {
        let builder = Builder::new("synthesis_step");
        let Made { weights, latents, labels, images } = self.made(&builder, maker);
        let inputs = self.inputs(&builder, self.shifted(&builder, images));
        let inlined = self.network(&builder, &inputs, self.swing)?;
        let (sum, terms) = loss(&self.loss_inputs(images, labels, &inlined), &self.weights)?;
        let vectors = [(weights, &maker.generator.weights), (latents, &maker.latents.vector)];
        let player = Player { loss: sum, vectors: &vectors, optimiser: Optimiser::ADAM };
        training_step(&StepParts::of(&[player], sum, &terms), lowering)
    }

    /// Returns the graph that computes images `[N, C, H, W]` from a generator's state: inputs `weights` and `latents`.
    ///
    /// # Errors
    /// Only through a bug in this crate.
    pub fn readout(&self, maker: &Maker, lowering: &Lowering) -> Result<Graph> {
        let builder = Builder::new("synthesis_readout");
        let images = self.made(&builder, maker).images;
        builder.finish_by(lowering, &[("images", images)])
    }

    /// Returns the graph that computes how far the statistics of images `[N, C, H, W]` differ from the expected ones:
    /// means and standard deviations for each of [`SynthesisTeacher::normals`], `[C]` each.
    ///
    /// # Errors
    /// As [`inline`].
    pub fn off(&self, batch: usize) -> Result<Graph> {
        let builder = Builder::new("statistics");
        let images = builder.input("images", DType::F32, &self.teacher.spec.shape(batch));
        let inlined = self.network(&builder, &self.inputs(&builder, images), false)?;
        let mut outputs = Vec::new();
        for (found, expected, _) in self.moments(&inlined) {
            let off = moments_off(found, expected, Distance::BeforeNormalisation);
            outputs.extend(off.map(|off| (format!("off_{}", outputs.len()), off)));
        }
        let outputs: Vec<(&str, Expr)> = outputs.iter().map(|(name, e)| (name.as_str(), *e)).collect();
        builder.finish(&outputs)
    }

    /// Returns the feeds of `step` of the generator with this `stream`, before the learning rates, in the order of
    /// [`ImageSynthesis::step`].
    pub fn feeds(&self, stream: RandomStream, step: u64) -> Vec<Tensor> {
        let mut rng = stream.at(step);
        let mut feeds = self.moves(&mut rng);
        if self.swing {
            let swings = self.teacher.swings.iter().flat_map(|swing| swing.size);
            feeds.extend(swings.map(|side| places(&shifted(side, 1, &mut rng))));
        }
        feeds
    }

    /// Returns the source rows and columns of flipped and shifted images, where augmentation is on.
    fn moves(&self, rng: &mut ChaCha8Rng) -> Vec<Tensor> {
        let size = self.teacher.spec.size().filter(|_| self.augment);
        size.into_iter()
            .flat_map(|[height, width]| random_flip_shift(height, width, rng))
            .map(|side| places(&side))
            .collect()
    }

    /// Returns the images that a generator makes of its latents, both of which are new inputs of `builder`.
    fn made<'b>(&self, builder: &'b Builder, maker: &Maker) -> Made<'b> {
        let Maker { generator, latents, labels } = maker;
        let [weights, z] = [("weights", &generator.weights), ("latents", &latents.vector)]
            .map(|(name, vector)| builder.input(name, DType::F32, &[vector.layout.len()]));
        let labels = labels.as_ref().map(|labels| builder.constant("labels", labels.clone()));
        let images = self.smoothed(generator.forward(weights, latents.forward(z, labels)));
        Made { weights, latents: z, labels, images }
    }

    /// Returns images flipped and shifted by the fed rows and columns.
    fn shifted<'b>(&self, builder: &'b Builder, images: Expr<'b>) -> Expr<'b> {
        match self.teacher.spec.size() {
            Some(size) if self.augment => selected(builder, images, size),
            _ => images,
        }
    }

    /// Returns images flipped and shifted at random, anew in every step, where augmentation is on.
    pub fn flipped_and_shifted<'b>(&self, scope: &Scope<'b>, images: Expr<'b>) -> Expr<'b> {
        let Some([height, width]) = self.teacher.spec.size().filter(|_| self.augment) else { return images };
        let feed = |name: &str, side| Feed { name: name.to_owned(), dtype: DType::I64, shape: vec![side] };
        let draw = move |rng: &mut ChaCha8Rng, _| {
            Ok(random_flip_shift(height, width, rng).iter().map(|side| places(side)).collect())
        };
        let places = scope.feeds(&[feed("rows", height), feed("columns", width)], draw);
        images.select(places[0], places[1])
    }

    /// Returns images behind the low-pass filter, if any.
    pub fn smoothed<'b>(&self, images: Expr<'b>) -> Expr<'b> {
        let Some([height, width]) = self.teacher.spec.size().filter(|_| self.low_pass > 0.0) else { return images };
        let builder = images.builder();
        let matrix = |side: usize| builder.constant("low_pass", gaussian(side, self.low_pass));
        matrix(height).matmul(images).matmul(matrix(width).transposed())
    }

    /// Returns the network's inputs: the images and the others.
    pub fn inputs<'b>(&self, builder: &'b Builder, images: Expr<'b>) -> Vec<Expr<'b>> {
        let SynthesisTeacher { graph, spec, .. } = &self.teacher;
        let input = |id| {
            let name = graph.name_of(id);
            let other = self.others.iter().find(|other| other.0 == name);
            other.map_or_else(|| spec.as_fed(images), |(name, tensor)| builder.constant(name, tensor.clone()))
        };
        graph.fed_inputs().into_iter().map(input).collect()
    }

    /// Returns the network's forward pass on its [`ImageSynthesis::inputs`].
    ///
    /// # Errors
    /// As [`inline`].
    pub fn network<'b>(&self, builder: &'b Builder, inputs: &[Expr<'b>], swing: bool) -> Result<Inlined<'b>> {
        let SynthesisTeacher { graph, swings, .. } = &self.teacher;
        inline(builder, graph, inputs, &mut |name, x| match swings.iter().find(|s| s.tensor == name) {
            Some(place) if swing => selected(builder, x, place.size),
            _ => x,
        })
    }

    /// Returns the inputs of the loss terms.
    pub fn loss_inputs<'a, 'b>(
        &'a self,
        images: Expr<'b>,
        labels: Option<Expr<'b>>,
        inlined: &Inlined<'b>,
    ) -> LossInputs<'a, 'b> {
        let SynthesisTeacher { logits, features, spec, .. } = &self.teacher;
        let flat = |(name, classes): &(String, usize)| {
            let logits = self.tensor(inlined, name)?;
            Some(logits.reshape(&[logits.len() / classes, *classes]))
        };
        LossInputs {
            images: spec.size().map(|_| self.standardised(images)),
            moments: self.moments(inlined),
            logits: logits.as_ref().and_then(flat),
            labels,
            features: features.as_ref().and_then(|name| self.tensor(inlined, name)),
        }
    }

    /// Returns images standardized by the known statistics of the network's input.
    fn standardised<'b>(&self, images: Expr<'b>) -> Expr<'b> {
        let channels = || (0..self.teacher.spec.channels()).map(|c| self.input.channel(c));
        let constant = |values: Vec<f64>| {
            let values: Vec<f32> = values.into_iter().map(|v| v as f32).collect();
            images.builder().constant("input", Tensor::from_f32(&[values.len()], &values))
        };
        let factors = constant(channels().map(|(_, std)| 1.0 / std).collect());
        images.channel_affine(factors, constant(channels().map(|(mean, std)| -mean / std).collect()))
    }

    fn moments<'a, 'b>(&'a self, inlined: &Inlined<'b>) -> Vec<Compared<'a, 'b>> {
        let normals = self.teacher.normals.iter().enumerate();
        normals
            .filter_map(|(i, normal)| {
                let (mean, variance) = self.tensor(inlined, &normal.tensor)?.channel_moments();
                Some((ChannelMoments { mean, variance }, normal, self.slack.get(i).copied().unwrap_or_default()))
            })
            .collect()
    }

    fn tensor<'b>(&self, inlined: &Inlined<'b>, name: &str) -> Option<Expr<'b>> {
        let found = self.teacher.graph.find(name)?;
        inlined.tensors.get(&found).map(|tensor| tensor.cast(DType::F32))
    }
}

fn places(side: &[i64]) -> Tensor {
    Tensor::from_i64(&[side.len()], side)
}

/// Returns the fed rows and columns of `x`.
fn selected<'b>(builder: &'b Builder, x: Expr<'b>, size: [usize; 2]) -> Expr<'b> {
    let rows = builder.input("rows", DType::I64, &size[..1]);
    x.select(rows, builder.input("columns", DType::I64, &size[1..]))
}

/// Returns the matrix that smooths a side by a Gaussian of standard deviation `deviation` in pixels, mirrored at the
/// edges.
fn gaussian(side: usize, std: f64) -> Tensor {
    let mut matrix = vec![0.0f64; side * side];
    let reach = (4.0 * std).ceil().min(side.saturating_sub(1) as f64) as usize;
    for row in 0..side {
        for step in -index(reach)..=index(reach) {
            let place = mirrored(index(row) + step, side);
            let weight = libm::exp(-0.5 * (step as f64 / std).powi(2));
            matrix[row * side + usize::try_from(place).unwrap_or(0)] += weight;
        }
    }
    let rows = matrix.chunks(side).flat_map(|row| {
        let sum: f64 = row.iter().sum();
        row.iter().map(move |v| (v / sum) as f32)
    });
    Tensor::from_f32(&[side, side], &rows.collect::<Vec<_>>())
}

/// Returns the slack of a layer whose channels differ by `off` on noise: the value that nine of ten do not exceed.
pub(super) fn slack(off: &[f32]) -> f32 {
    let mut sorted: Vec<f32> = off.iter().map(|v| v.abs()).collect();
    sorted.sort_by(f32::total_cmp);
    let place = ((sorted.len() as f64) * (1.0 - BEYOND_SLACK)) as usize;
    sorted.get(place.min(sorted.len().saturating_sub(1))).copied().unwrap_or(0.0)
}
