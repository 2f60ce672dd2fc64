//! The step that a generator and its latents are trained by, as a graph, and what is fed in it.

use rand_chacha::ChaCha8Rng;

use super::generator::Generator;
use super::options::Options;
use super::stage::Source;
use super::teacher::SynthesisTeacher;
use super::terms::{Compared, LossInputs, Weights, loss, weights};
use crate::error::Result;
use crate::expr::{Builder, Expr, Inlined, Lowering, index, inline};
use crate::ir::{DType, Graph, Tensor};
use crate::stats::InputStatistics;
use crate::train::losses::{ChannelMoments, Distance, moments_off};
use crate::train::{Optimiser, Player, TrainingStep, mirrored, random_flip_shift, shifted, step_rng, training_step};

/// Losses that the state keeps.
const LOSSES: usize = 20;
/// The part of channels whose distance under noise is more than the slack.
const BEYOND_SLACK: f64 = 0.1;

/// How images are made by a subject.
#[derive(Clone, Debug)]
pub struct ImageSynthesis {
    /// The network.
    pub subject: SynthesisTeacher,
    /// The weights of the terms of the loss.
    pub weights: Weights,
    /// What each of [`SynthesisTeacher::normals`] may be off by, of means and of deviations; empty for nothing.
    pub slack: Vec<[f32; 2]>,
    /// Whether convolutions with strides see their input shifted by up to a pixel (swing; Li et al. 2023, Genie).
    pub swing: bool,
    /// Whether images are mirrored and shifted (Zhong et al. 2022, IntraQ, there cropped).
    pub augment: bool,
    /// The deviation in pixels of the Gaussian that images are smoothed by (Kim et al. 2025, SynQ, there given by its
    /// frequency); 0 for none.
    pub low_pass: f64,
    /// Inputs of the network beside the images, by name, on a batch.
    pub others: Vec<(String, Tensor)>,
    /// What is known of the images that the network is fed.
    pub input: InputStatistics,
}

impl ImageSynthesis {
    /// Returns how images are made for the network of `source`; no slack and no other inputs are found yet.
    ///
    /// # Errors
    /// As [`SynthesisTeacher::new`]; [`crate::Error::Usage`] for a term of the loss that does not exist.
    pub fn new(source: &Source, options: &Options) -> Result<Self> {
        let subject = SynthesisTeacher::new(source.float, source.norms)?;
        Ok(Self {
            weights: weights(&options.loss, !subject.normals.is_empty())?,
            slack: Vec::new(),
            swing: options.swing,
            augment: options.augment,
            low_pass: options.low_pass,
            others: Vec::new(),
            input: source.input.clone(),
            subject,
        })
    }

    /// Returns the training step of `generator`. `labels: [N, classes]` are the classes of the images, where they were
    /// chosen.
    ///
    /// # Errors
    /// An operator that cannot be differentiated, by node; see [`loss`].
    pub fn step(&self, generator: &Generator, labels: Option<&Tensor>, lowering: &Lowering) -> Result<TrainingStep> {
        let builder = Builder::new("synthesis_step");
        let [weights, latents] = inputs_of(&builder, generator);
        let labels = labels.map(|labels| builder.constant("labels", labels.clone()));
        let images = self.made(generator, (weights, latents), labels);
        let seen = self.shifted(&builder, images);
        let inlined = self.network(&builder, seen, self.swing)?;
        let (sum, terms) = loss(&self.scene(images, labels, &inlined), &self.weights)?;
        let vectors = [(weights, &generator.weights), (latents, &generator.latents)];
        let player = Player { loss: sum, vectors: &vectors };
        training_step(&[player], (sum, &terms), (Optimiser::ADAM, LOSSES), lowering)
    }

    /// Returns the graph that makes images `[N, C, H, W]` of the state of a generator: inputs `weights` and `latents`.
    ///
    /// # Errors
    /// Mistakes of ours alone.
    pub fn readout(&self, generator: &Generator, labels: Option<&Tensor>, lowering: &Lowering) -> Result<Graph> {
        let builder = Builder::new("synthesis_readout");
        let [weights, latents] = inputs_of(&builder, generator);
        let labels = labels.map(|labels| builder.constant("labels", labels.clone()));
        let images = self.made(generator, (weights, latents), labels);
        builder.finish_by(lowering, &[("images", images)])
    }

    /// Returns the graph that tells how far the statistics of images `[N, C, H, W]` are off, for each of
    /// [`SynthesisTeacher::normals`] and of means and deviations, `[C]` each.
    ///
    /// # Errors
    /// As [`inline`].
    pub fn off(&self, batch: usize) -> Result<Graph> {
        let builder = Builder::new("statistics");
        let images = builder.input("images", DType::F32, &self.subject.form.shape(batch));
        let inlined = self.network(&builder, images, false)?;
        let mut outputs = Vec::new();
        for (found, expected, _) in self.moments(&inlined) {
            let off = moments_off(found, expected, Distance::BeforeNormalisation);
            outputs.extend(off.map(|off| (format!("off_{}", outputs.len()), off)));
        }
        let outputs: Vec<(&str, Expr)> = outputs.iter().map(|(name, e)| (name.as_str(), *e)).collect();
        builder.finish(&outputs)
    }

    /// Returns what is fed in `step` of generator `number` beside the rates, in the order of [`ImageSynthesis::step`].
    pub fn feeds(&self, (seed, number, step): (u64, u64, u64)) -> Vec<Tensor> {
        let mut rng = step_rng(seed, number, step);
        let mut feeds = self.moves(&mut rng);
        if self.swing {
            let swings = self.subject.swings.iter().flat_map(|swing| swing.size);
            feeds.extend(swings.map(|side| places(&shifted(side, 1, &mut rng))));
        }
        feeds
    }

    /// Returns the rows and columns that images take their pixels from, where they are mirrored and shifted.
    pub(super) fn moves(&self, rng: &mut ChaCha8Rng) -> Vec<Tensor> {
        let size = self.subject.form.size().filter(|_| self.augment);
        size.into_iter()
            .flat_map(|[height, width]| random_flip_shift(height, width, rng))
            .map(|side| places(&side))
            .collect()
    }

    /// Returns the images `[N, C, H, W]` that a generator makes of its weights and latents.
    pub(super) fn made<'b>(
        &self,
        generator: &Generator,
        vectors: (Expr<'b>, Expr<'b>),
        labels: Option<Expr<'b>>,
    ) -> Expr<'b> {
        self.smoothed(generator.forward(vectors.0.builder(), vectors, labels))
    }

    /// Returns images mirrored and shifted as they are fed to be.
    pub(super) fn shifted<'b>(&self, builder: &'b Builder, images: Expr<'b>) -> Expr<'b> {
        match self.subject.form.size() {
            Some(size) if self.augment => selected(builder, images, size),
            _ => images,
        }
    }

    fn smoothed<'b>(&self, images: Expr<'b>) -> Expr<'b> {
        let Some([height, width]) = self.subject.form.size().filter(|_| self.low_pass > 0.0) else { return images };
        let builder = images.builder();
        let matrix = |side: usize| builder.constant("low_pass", gaussian(side, self.low_pass));
        matrix(height).matmul(images).matmul(matrix(width).transposed())
    }

    /// Returns what the network is fed: images, and what goes beside them.
    pub(super) fn inputs<'b>(&self, builder: &'b Builder, images: Expr<'b>) -> Vec<Expr<'b>> {
        let SynthesisTeacher { graph, form, .. } = &self.subject;
        let input = |id| {
            let name = graph.name_of(id);
            let other = self.others.iter().find(|other| other.0 == name);
            other.map_or_else(|| form.as_fed(images), |(name, tensor)| builder.constant(name, tensor.clone()))
        };
        graph.fed_inputs().into_iter().map(input).collect()
    }

    /// Returns what the network makes of images.
    pub(super) fn network<'b>(&self, builder: &'b Builder, images: Expr<'b>, swing: bool) -> Result<Inlined<'b>> {
        let SynthesisTeacher { graph, swings, .. } = &self.subject;
        inline(builder, graph, &self.inputs(builder, images), &mut |name, x| match swings
            .iter()
            .find(|s| s.tensor == name)
        {
            Some(place) if swing => selected(builder, x, place.size),
            _ => x,
        })
    }

    /// Returns what terms of the loss are taken of.
    pub(super) fn scene<'a, 'b>(
        &'a self,
        images: Expr<'b>,
        labels: Option<Expr<'b>>,
        inlined: &Inlined<'b>,
    ) -> LossInputs<'a, 'b> {
        let SynthesisTeacher { logits, features, form, .. } = &self.subject;
        let flat = |(name, classes): &(String, usize)| {
            let logits = self.tensor(inlined, name)?;
            Some(logits.reshape(&[logits.len() / classes, *classes]))
        };
        LossInputs {
            images: form.size().map(|_| self.standardised(images)),
            moments: self.moments(inlined),
            logits: logits.as_ref().and_then(flat),
            labels,
            features: features.as_ref().and_then(|name| self.tensor(inlined, name)),
        }
    }

    /// Returns images with mean 0 and deviation 1, as far as the network's input is known.
    fn standardised<'b>(&self, images: Expr<'b>) -> Expr<'b> {
        let channels = || (0..self.subject.form.channels()).map(|c| self.input.channel(c));
        let constant = |values: Vec<f64>| {
            let values: Vec<f32> = values.into_iter().map(|v| v as f32).collect();
            images.builder().constant("input", Tensor::from_f32(&[values.len()], &values))
        };
        let factors = constant(channels().map(|(_, std)| 1.0 / std).collect());
        images.channel_affine(factors, constant(channels().map(|(mean, std)| -mean / std).collect()))
    }

    fn moments<'a, 'b>(&'a self, inlined: &Inlined<'b>) -> Vec<Compared<'a, 'b>> {
        let normals = self.subject.normals.iter().enumerate();
        normals
            .filter_map(|(i, normal)| {
                let (mean, variance) = self.tensor(inlined, &normal.tensor)?.channel_moments();
                Some((ChannelMoments { mean, variance }, normal, self.slack.get(i).copied().unwrap_or_default()))
            })
            .collect()
    }

    fn tensor<'b>(&self, inlined: &Inlined<'b>, name: &str) -> Option<Expr<'b>> {
        let found = self.subject.graph.find(name)?;
        inlined.tensors.get(&found).map(|tensor| tensor.cast(DType::F32))
    }
}

fn places(side: &[i64]) -> Tensor {
    Tensor::from_i64(&[side.len()], side)
}

fn inputs_of<'b>(builder: &'b Builder, generator: &Generator) -> [Expr<'b>; 2] {
    [("weights", &generator.weights), ("latents", &generator.latents)]
        .map(|(name, vector)| builder.input(name, DType::F32, &[vector.layout.len()]))
}

/// Returns the rows and columns of `x` that are fed.
fn selected<'b>(builder: &'b Builder, x: Expr<'b>, size: [usize; 2]) -> Expr<'b> {
    let rows = builder.input("rows", DType::I64, &size[..1]);
    x.select(rows, builder.input("columns", DType::I64, &size[1..]))
}

/// Returns the matrix that smooths a side by a Gaussian of `deviation` pixels, mirrored at the edges.
fn gaussian(side: usize, deviation: f64) -> Tensor {
    let mut matrix = vec![0.0f64; side * side];
    let reach = (4.0 * deviation).ceil().min(side.saturating_sub(1) as f64) as usize;
    for row in 0..side {
        for step in -index(reach)..=index(reach) {
            let place = mirrored(index(row) + step, side);
            let weight = libm::exp(-0.5 * (step as f64 / deviation).powi(2));
            matrix[row * side + usize::try_from(place).unwrap_or(0)] += weight;
        }
    }
    let rows = matrix.chunks(side).flat_map(|row| {
        let sum: f64 = row.iter().sum();
        row.iter().map(move |v| (v / sum) as f32)
    });
    Tensor::from_f32(&[side, side], &rows.collect::<Vec<_>>())
}

/// Returns the slack of a layer whose channels are off by `off` under noise: what nine of ten are off by at most.
pub(super) fn slack(off: &[f32]) -> f32 {
    let mut sorted: Vec<f32> = off.iter().map(|v| v.abs()).collect();
    sorted.sort_by(f32::total_cmp);
    let place = ((sorted.len() as f64) * (1.0 - BEYOND_SLACK)) as usize;
    sorted.get(place.min(sorted.len().saturating_sub(1))).copied().unwrap_or(0.0)
}
