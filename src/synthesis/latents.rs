//! The trained latents of a batch, and a vector per class that multiplies those of class-conditional images (Xu et al.
//! 2020, GDFQ).

use rand::RngExt;
use rand_distr::StandardNormal;

use super::Generator;
use crate::error::{Error, Result};
use crate::expr::Expr;
use crate::train::{RandomStream, TrainedVector};

/// The most latents of a batch: one gigabyte.
const MOST_LATENTS: usize = 1 << 28;
/// The learning rate of latents relative to that of the generator.
const LATENT_RATE: f32 = 10.0;

/// The latents of one batch.
#[derive(Clone, Debug)]
pub struct Latents {
    /// Latents `[N, LATENTS]`, then the vectors of classes `[classes, LATENTS]`, if any.
    pub vector: TrainedVector,
}

impl Latents {
    /// Returns random latents of `batch` images, and of `classes` where images are conditional.
    ///
    /// # Errors
    /// [`Error::Resources`] for more latents than fit in memory.
    pub fn new(batch: usize, classes: Option<usize>, stream: RandomStream) -> Result<Self> {
        if batch.checked_mul(Generator::LATENTS).is_none_or(|latents| latents > MOST_LATENTS) {
            return Err(Error::Resources(format!("{batch} images at a time do not fit in memory; try --batch 128")));
        }
        let (mut vector, mut rng) = (TrainedVector::default(), stream.at(u64::MAX));
        for (name, rows) in [("latents", Some(batch)), ("classes", classes)] {
            let Some(rows) = rows else { continue };
            let start: Vec<f32> = (0..rows * Generator::LATENTS).map(|_| rng.sample(StandardNormal)).collect();
            vector.add(name, &[rows, Generator::LATENTS], &start, &vec![LATENT_RATE; start.len()])?;
        }
        Ok(Self { vector })
    }

    /// Returns the latents `[N, LATENTS]` in `vector: [n]`, multiplied by the vectors of the classes in `labels: [N,
    /// classes]` where there are any.
    #[track_caller]
    pub fn forward<'b>(&self, vector: Expr<'b>, labels: Option<Expr<'b>>) -> Expr<'b> {
        let parts = self.vector.layout.split(vector);
        match (parts.as_slice(), labels) {
            ([latents, classes], Some(labels)) => *latents * labels.matmul(*classes),
            (parts, _) => parts[0],
        }
    }
}
