//! Adversarial distillation: a generator searches for images that maximize the distance between student and teacher
//! while the student learns from them; both are updated in the same step (Choi et al. 2020).

use rand::RngExt;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use super::generator::Generator;
use super::step::ImageSynthesis;
use super::terms::loss;
use crate::error::Result;
use crate::expr::{Builder, Lowering};
use crate::ir::{DType, Tensor};
use crate::train::{
    Distillation, Network, Player, TrainingStep, adversarial_distance, distance, step_rng, training_step,
};

/// The generator's learning rate relative to the student's.
const GENERATOR_RATE: f32 = 0.2;

/// A trained generator for a network with one input, and its synthesis settings.
#[derive(Clone, Debug)]
pub struct TrainedGenerator {
    /// The synthesis settings.
    pub making: ImageSynthesis,
    /// Its weights, in the order of [`Generator::weights`].
    pub weights: Tensor,
    /// Its latents, in the order of [`Generator::latents`].
    pub latents: Tensor,
    /// The number of classes, for a class-conditional generator.
    pub classes: Option<usize>,
}

/// The student and the generator that are trained against each other.
pub struct AdversarialGame<'a> {
    distillation: &'a Distillation,
    /// The initial generator.
    trained_generator: TrainedGenerator,
    /// The latents to mix, image by image, and the class embeddings that multiply them.
    latents: (Vec<f32>, Vec<f32>),
}

impl<'a> AdversarialGame<'a> {
    /// Returns the game of `distillation` against `trained_generator`.
    ///
    /// # Errors
    /// When the generator's latents cannot be read.
    pub fn new(distillation: &'a Distillation, trained_generator: TrainedGenerator) -> Result<Self> {
        let mut latents = trained_generator.latents.to_f32()?;
        let of_classes = trained_generator.classes.map_or(0, |classes| classes * Generator::LATENTS);
        let of_classes = latents.split_off(latents.len().saturating_sub(of_classes));
        Ok(Self { distillation, trained_generator, latents: (latents, of_classes) })
    }

    /// Returns the step on `batch` generated images and as many other inputs. The student minimizes its distance to the
    /// teacher on both; the generator minimizes the synthesis loss minus the distance on its images. The feeds are
    /// those of [`AdversarialGame::feeds`], then the other inputs.
    ///
    /// # Errors
    /// As [`ImageSynthesis::step`] and [`Distillation::step`].
    pub fn step(&self, batch: usize, lowering: &Lowering) -> Result<TrainingStep> {
        let builder = Builder::new("adversarial_step");
        let Self { distillation, trained_generator: TrainedGenerator { making, weights: start, classes, .. }, .. } =
            self;
        let form = (&making.subject.form, &making.input);
        let mut generator = Generator::fresh(form, (batch, making.subject.macs), *classes, (0, 0))?;
        generator.weights.begin_with(start)?;
        generator.weights.set_lr_scale(GENERATOR_RATE);
        let weights = builder.input("generator", DType::F32, &[generator.weights.layout.len()]);
        let latents = builder.input("latents", DType::F32, &[generator.latents.layout.len()]);
        let labels = classes.map(|classes| builder.input("labels", DType::F32, &[batch, classes]));
        let images = making.made(&generator, (weights, latents), labels);
        let seen = making.shifted(&builder, images);
        let teacher = making.network(&builder, seen, false)?;
        let stored = distillation.compared(&builder, batch)?;
        let student = distillation.student();
        let [(student_weights, _), (scales, _)] = stored.vectors;
        let answers = student.forward(&builder, &making.inputs(&builder, seen), (student_weights, scales))?;
        let networks = (
            Network { graph: &making.subject.graph, inlined: &teacher },
            Network { graph: student.graph(), inlined: &answers },
        );
        let (targets, temperature) = (&distillation.targets().tensors, distillation.objective.temperature);
        let fresh = distance(targets, networks, temperature)?;
        let apart = adversarial_distance(targets, networks, temperature)?;
        let (looks, _) = loss(&making.scene(images, labels, &teacher), &making.weights)?;
        let generated = [(weights, &generator.weights)];
        let players = [
            Player { loss: (stored.loss + fresh) * 0.5, vectors: &stored.vectors },
            Player { loss: looks - apart, vectors: &generated },
        ];
        let kept = (distillation.optimiser, distillation.losses);
        training_step(&players, (stored.loss, &[("fresh", fresh), ("looks", looks)]), kept, lowering)
    }

    /// Returns the feeds of `step` of a game before the other inputs: interpolated latents of two trained images (of
    /// one image and noise, where there is only one), class labels, and the flips and shifts of images.
    pub fn feeds(&self, batch: usize, (seed, game, step): (u64, u64, u64)) -> Vec<Tensor> {
        let mut rng = step_rng(seed, game, step);
        let (rows, of_classes) = &self.latents;
        let row = |i: usize| &rows[i * Generator::LATENTS..(i + 1) * Generator::LATENTS];
        let mut latents = Vec::with_capacity(batch * Generator::LATENTS + of_classes.len());
        for _ in 0..batch {
            let [first, second] = match rows.len() / Generator::LATENTS {
                1 => [row(0).to_vec(), noise(&mut rng)],
                images => {
                    let pair = index::sample(&mut rng, images, 2);
                    [0, 1].map(|i| row(pair.index(i)).to_vec())
                }
            };
            let angle = rng.random_range(0.0..std::f32::consts::FRAC_PI_2);
            // Keeps the norm of the latents.
            let (one, other) = (libm::cosf(angle), libm::sinf(angle));
            latents.extend(first.iter().zip(&second).map(|(a, b)| one * a + other * b));
        }
        latents.extend(of_classes);
        let mut feeds = vec![Tensor::from_f32(&[latents.len()], &latents)];
        if let Some(classes) = self.trained_generator.classes {
            let mut ones = vec![0.0; batch * classes];
            (0..batch).for_each(|i| ones[i * classes + rng.random_range(0..classes)] = 1.0);
            feeds.push(Tensor::from_f32(&[batch, classes], &ones));
        }
        feeds.extend(self.trained_generator.making.moves(&mut rng));
        feeds
    }
}

/// Returns a random initial latent.
fn noise(rng: &mut ChaCha8Rng) -> Vec<f32> {
    (0..Generator::LATENTS).map(|_| rng.sample(StandardNormal)).collect()
}
