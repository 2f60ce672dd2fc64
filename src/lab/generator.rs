//! Generators of images: untrained ones that map random latents and classes to images, and one that was trained by
//! image synthesis.

use std::rc::Rc;

use rand::RngExt;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use super::{Lab, Teacher};
use crate::error::{Error, Result};
use crate::expr::Expr;
use crate::ir::{DType, Tensor};
use crate::synthesis::{Generator, ImageSynthesis, TrainedGenerator};
use crate::train::{Feed, Learner, RandomStream, Scope, TrainedVector};

/// Separates the initial values of generators from those of other stages.
const STAGE: u64 = 0x6765_6e65_7261_7465;

/// A batch of images as expressions.
#[derive(Clone, Copy, Debug)]
pub struct GeneratedImages<'b> {
    /// Pixels `[N, C, H, W]` in units of the network's input, or vectors `[N, C]`.
    pub pixels: Expr<'b>,
    /// The assigned classes, one-hot `[N, classes]`; none for unconditional images.
    pub labels: Option<Expr<'b>>,
}

impl<'b> GeneratedImages<'b> {
    /// Returns the assigned classes.
    ///
    /// # Errors
    /// [`Error::Plan`] for unconditional images.
    pub fn labels(&self) -> Result<Expr<'b>> {
        self.labels.ok_or_else(|| Error::Plan("the generator is not class-conditional".to_owned()))
    }

    /// Returns the same images without gradient.
    #[must_use]
    pub fn detached(self) -> Self {
        Self { pixels: self.pixels.stop_gradient(), ..self }
    }
}

/// A generator that starts untrained and maps random latents to images. Latents of class-conditional images are
/// multiplied by a trained vector per class (Xu et al. 2020, GDFQ).
#[derive(Debug)]
pub struct ConvGenerator {
    name: String,
    generator: Generator,
    /// Vectors `[classes, LATENTS]`.
    classes: Option<(usize, TrainedVector)>,
    teacher: Rc<Teacher>,
}

impl Lab<'_> {
    /// Returns the generators of the run (`--generators`), which are not class-conditional.
    ///
    /// # Errors
    /// As [`Lab::generator`].
    pub fn generators(&self) -> Result<Vec<ConvGenerator>> {
        let generator = |number| self.generator(&format!("generator{number}"), number, false);
        (0..self.run.settings.generators.unwrap_or(1)).map(generator).collect()
    }

    /// Returns generator `number` of the run; class-conditional where `is_conditional`.
    ///
    /// # Errors
    /// As [`Lab::teacher`]; a network without class scores where it is class-conditional.
    pub fn generator(&self, name: &str, number: u64, is_conditional: bool) -> Result<ConvGenerator> {
        let (teacher, stream) = (self.teacher()?, RandomStream::new(self.context.seed, STAGE ^ number));
        let ImageSynthesis { teacher: network, input, .. } = teacher.synthesis();
        let generator = Generator::new(&network.spec, input, network.macs, stream)?;
        let mut classes = None;
        if is_conditional {
            let (count, mut rng) = (teacher.classes()?, stream.at(u64::MAX));
            let start = normal(&mut rng, count * Generator::LATENTS);
            let mut vector = TrainedVector::default();
            vector.add("classes", &[count, Generator::LATENTS], &start, &vec![1.0; start.len()])?;
            classes = Some((count, vector));
        }
        Ok(ConvGenerator { name: name.to_owned(), generator, classes, teacher })
    }
}

impl ConvGenerator {
    fn part(&self, part: &str) -> String {
        format!("{}/{part}", self.name)
    }

    /// Returns images of latents, and of classes where it is class-conditional, that are drawn anew in every step.
    pub fn images<'b>(&self, scope: &Scope<'b>) -> GeneratedImages<'b> {
        let batch = scope.batch();
        let mut z =
            drawn(scope, &self.part("latents"), Generator::LATENTS, move |rng| normal(rng, batch * Generator::LATENTS));
        let mut labels = None;
        if let Some((classes, vector)) = &self.classes {
            let classes = *classes;
            let chosen = drawn(scope, &self.part("labels"), classes, move |rng| one_hot(rng, batch, classes));
            let vectors = scope.vector(&self.part("classes"), vector).reshape(&[classes, Generator::LATENTS]);
            z = z * chosen.matmul(vectors);
            labels = Some(chosen);
        }
        let made = self.generator.forward(scope.vector(&self.part("weights"), &self.generator.weights), z);
        GeneratedImages { pixels: self.teacher.synthesis().smoothed(made), labels }
    }
}

impl Learner for ConvGenerator {
    fn vectors(&self) -> Vec<(String, &TrainedVector)> {
        let classes = self.classes.iter().map(|(_, vector)| (self.part("classes"), vector));
        std::iter::once((self.part("weights"), &self.generator.weights)).chain(classes).collect()
    }
}

/// A generator that image synthesis trained, fed with interpolated latents of two synthesized images (of one image and
/// noise, where there is only one). Its class vectors are fixed.
#[derive(Debug)]
pub struct LatentMixer {
    generator: Generator,
    trained: TrainedGenerator,
    /// The latents to mix, image by image, and the vectors of classes.
    latents: Rc<[f32]>,
    classes: Option<Tensor>,
}

impl LatentMixer {
    /// Returns the mixer of a trained generator, whose learning rate is `lr_scale` times that of the step.
    ///
    /// # Errors
    /// When its latents cannot be read.
    pub fn new(trained: TrainedGenerator, lr_scale: f32) -> Result<Self> {
        let teacher = &trained.synthesis.teacher;
        let mut generator =
            Generator::new(&teacher.spec, &trained.synthesis.input, teacher.macs, RandomStream::new(0, 0))?;
        generator.weights.begin_with(&trained.weights)?;
        generator.weights.set_lr_scale(lr_scale);
        let mut latents = trained.latents.to_f32()?;
        let count = trained.classes.unwrap_or(0);
        let of_classes = latents.split_off(latents.len().saturating_sub(count * Generator::LATENTS));
        let classes = trained.classes.map(|count| Tensor::from_f32(&[count, Generator::LATENTS], &of_classes));
        Ok(Self { generator, trained, latents: latents.into(), classes })
    }

    /// Returns images of latents and classes that are drawn anew in every step, flipped and shifted as in synthesis.
    pub fn images<'b>(&self, scope: &Scope<'b>) -> GeneratedImages<'b> {
        let (batch, rows) = (scope.batch(), Rc::clone(&self.latents));
        let mut z = drawn(scope, "latents", Generator::LATENTS, move |rng| mixed(rng, &rows, batch));
        let mut labels = None;
        if let Some(vectors) = &self.classes {
            let classes = vectors.shape()[0];
            let chosen = drawn(scope, "labels", classes, move |rng| one_hot(rng, batch, classes));
            z = z * chosen.matmul(scope.builder().constant("classes", vectors.clone()));
            labels = Some(chosen);
        }
        let weights = scope.vector("generator", &self.generator.weights);
        let synthesis = &self.trained.synthesis;
        let pixels = synthesis.smoothed(self.generator.forward(weights, z));
        GeneratedImages { pixels: synthesis.flipped_and_shifted(scope, pixels), labels }
    }
}

impl Learner for LatentMixer {
    fn vectors(&self) -> Vec<(String, &TrainedVector)> {
        vec![("generator".to_owned(), &self.generator.weights)]
    }
}

/// Returns a tensor `[N, width]` whose values `draw` draws anew in every step.
fn drawn<'b>(
    scope: &Scope<'b>,
    name: &str,
    width: usize,
    mut draw: impl FnMut(&mut ChaCha8Rng) -> Vec<f32> + 'static,
) -> Expr<'b> {
    let shape = vec![scope.batch(), width];
    let feed = Feed { name: name.to_owned(), dtype: DType::F32, shape: shape.clone() };
    scope.feeds(&[feed], move |rng, _| Ok(vec![Tensor::from_f32(&shape, &draw(rng))]))[0]
}

fn normal(rng: &mut ChaCha8Rng, count: usize) -> Vec<f32> {
    (0..count).map(|_| rng.sample(StandardNormal)).collect()
}

/// Returns random classes, `[N, classes]`.
fn one_hot(rng: &mut ChaCha8Rng, batch: usize, classes: usize) -> Vec<f32> {
    let mut ones = vec![0.0; batch * classes];
    (0..batch).for_each(|i| ones[i * classes + rng.random_range(0..classes)] = 1.0);
    ones
}

/// Returns latents on arcs between two of `rows`, `[N, LATENTS]`; the norm of latents stays.
fn mixed(rng: &mut ChaCha8Rng, rows: &[f32], batch: usize) -> Vec<f32> {
    let row = |i: usize| &rows[i * Generator::LATENTS..(i + 1) * Generator::LATENTS];
    let mut latents = Vec::with_capacity(batch * Generator::LATENTS);
    for _ in 0..batch {
        let [first, second] = match rows.len() / Generator::LATENTS {
            1 => [row(0).to_vec(), normal(rng, Generator::LATENTS)],
            images => {
                let pair = index::sample(rng, images, 2);
                [0, 1].map(|i| row(pair.index(i)).to_vec())
            }
        };
        let angle = rng.random_range(0.0..std::f32::consts::FRAC_PI_2);
        let (one, other) = (libm::cosf(angle), libm::sinf(angle));
        latents.extend(first.iter().zip(&second).map(|(a, b)| one * a + other * b));
    }
    latents
}
