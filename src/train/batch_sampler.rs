//! Training inputs: generated once and sampled anew for each step.

use rand::RngExt;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;

use super::step_rng::{random_flip_shift, step_rng};
use crate::data::MOST_COLOURS;
use crate::error::{Error, Result};
use crate::ir::{DType, Tensor};

/// The inputs of all steps of a stage.
#[derive(Clone, Debug)]
pub struct BatchSampler {
    inputs: Vec<Tensor>,
    samples: usize,
    batch: usize,
    seed: u64,
    stage: u64,
    /// Whether images are flipped, shifted and mixed.
    varies: bool,
}

impl BatchSampler {
    /// Returns a sampler that draws batches of `batch` samples from `inputs` (one tensor per network input, samples
    /// first). `stage` separates stages that share a seed.
    ///
    /// # Errors
    /// [`Error::Shape`] when the inputs differ in their number of samples or hold fewer samples than a batch.
    pub fn new(inputs: Vec<Tensor>, batch: usize, seed: u64, stage: u64) -> Result<Self> {
        let samples = Tensor::samples_of(&inputs);
        for (i, tensor) in inputs.iter().enumerate() {
            if tensor.shape().first() != Some(&samples) || samples < batch {
                let message =
                    format!("expected {samples} samples, at least a batch of {batch}, found {:?}", tensor.shape());
                return Err(Error::shape(format!("input {i} of the training"), message));
            }
        }
        Ok(Self { inputs, samples, batch, seed, stage, varies: false })
    }

    /// Returns the sampler with augmentation: each drawn image is randomly flipped and shifted, and every other image
    /// is mixed with the previous one by a share between 0 and 1 (Zhang et al. 2018; Luo et al. 2024), so that fewer
    /// images suffice. Only float32 images are augmented, with channels first or last.
    #[must_use]
    pub fn varied(self) -> Self {
        Self { varies: true, ..self }
    }

    /// Returns the inputs of `step`: samples drawn without replacement by ChaCha keyed with seed, stage and step.
    ///
    /// # Errors
    /// When an input has elements smaller than a byte.
    pub fn batch(&self, step: u64) -> Result<Vec<Tensor>> {
        let mut rng = step_rng(self.seed, self.stage, step);
        let picked = index::sample(&mut rng, self.samples, self.batch).into_vec();
        let inputs = self.inputs.iter().map(|tensor| {
            let dealt = tensor.picked(&picked)?;
            match planes(dealt.shape()).filter(|_| self.varies && dealt.dtype() == DType::F32) {
                Some(planes) => varied(&dealt, planes, &mut rng),
                None => Ok(dealt),
            }
        });
        inputs.collect()
    }
}

/// Returns the number of planes of an image, their height and width, and the values per pixel in a plane: one plane per
/// channel with channels first, one plane of all channels with channels last.
pub(super) fn planes(shape: &[usize]) -> Option<[usize; 4]> {
    match *shape {
        [_, channels, height, width] if width > MOST_COLOURS => Some([channels, height, width, 1]),
        [_, height, width, channels] if height.min(width) > MOST_COLOURS => Some([1, height, width, channels]),
        _ => None,
    }
}

/// Returns the images flipped and shifted, with every other one mixed with the previous one.
fn varied(images: &Tensor, planes: [usize; 4], rng: &mut ChaCha8Rng) -> Result<Tensor> {
    let [count, height, width, depth] = planes;
    let values = images.to_f32()?;
    let size = count * height * width * depth;
    let place = |place: i64| usize::try_from(place).unwrap_or(0);
    let mut made: Vec<f32> = Vec::with_capacity(values.len());
    for (number, image) in values.chunks(size).enumerate() {
        let [rows, columns] = random_flip_shift(height, width, rng);
        let values_of = |column: i64| (0..depth).map(move |value| place(column) * depth + value);
        let columns: Vec<usize> = columns.into_iter().flat_map(values_of).collect();
        let start = made.len();
        for plane in image.chunks(height * width * depth) {
            for &row in &rows {
                let row = &plane[place(row) * width * depth..][..width * depth];
                made.extend(columns.iter().map(|&column| row[column]));
            }
        }
        if number % 2 == 1 {
            let share: f32 = rng.random();
            let (before, own) = made.split_at_mut(start);
            let pairs = own.iter_mut().zip(&before[start - size..]);
            pairs.for_each(|(own, other)| *own = share * *own + (1.0 - share) * other);
        }
    }
    Ok(Tensor::from_f32(images.shape(), &made))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_gets_the_same_samples_again_and_another_step_others() {
        let values: Vec<f32> = (0..20u8).map(f32::from).collect();
        let inputs =
            vec![Tensor::from_f32(&[10, 2], &values), Tensor::from_i64(&[10], &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9])];
        let pool = BatchSampler::new(inputs.clone(), 4, 7, 0).unwrap();
        let made = pool.batch(3).unwrap();
        assert_eq!(made, pool.batch(3).unwrap());
        let picked = made[1].to_i64().unwrap();
        let mut distinct = picked.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), 4, "a sample was picked twice: {picked:?}");
        let expected: Vec<f32> = picked.iter().flat_map(|&i| [2.0 * i as f32, 2.0 * i as f32 + 1.0]).collect();
        assert_eq!(made[0].to_f32().unwrap(), expected, "inputs are picked alike");
        let others = [pool.batch(4), BatchSampler::new(inputs.clone(), 4, 8, 0).unwrap().batch(3)];
        let stages = BatchSampler::new(inputs.clone(), 4, 7, 1).unwrap().batch(3);
        assert!(others.into_iter().chain([stages]).all(|other| other.unwrap() != made));
        assert_eq!(BatchSampler::new(inputs.clone(), 4, 7, 0).unwrap().varied().batch(3).unwrap(), made, "no images");
        assert!(BatchSampler::new(inputs, 11, 7, 0).unwrap_err().to_string().contains("at least a batch of 11"));
    }

    #[test]
    fn varied_images_hold_pixels_of_their_own_and_every_other_one_is_mixed() {
        // All pixels of image i have the value i, so only mixed images hold fractions.
        let values: Vec<f32> = (0..6u8).flat_map(|i| vec![f32::from(i); 2 * 5 * 8]).collect();
        let pool = BatchSampler::new(vec![Tensor::from_f32(&[6, 2, 5, 8], &values)], 6, 1, 0).unwrap();
        let plain = pool.batch(0).unwrap()[0].to_f32().unwrap();
        let varied = pool.clone().varied();
        let found = varied.batch(0).unwrap()[0].to_f32().unwrap();
        assert_eq!(varied.batch(0).unwrap(), varied.batch(0).unwrap());
        let firsts = |values: &[f32]| values.chunks(80).map(|image| image[0]).collect::<Vec<f32>>();
        let (plain, found) = (firsts(&plain), firsts(&found));
        for pair in 0..3 {
            let [even, odd] = [2 * pair, 2 * pair + 1];
            assert_eq!(found[even], plain[even]);
            let (lo, hi) = (plain[even].min(plain[odd]), plain[even].max(plain[odd]));
            assert!(found[odd] > lo && found[odd] < hi, "{plain:?} {found:?}");
        }
    }

    #[test]
    fn images_with_channels_last_are_varied_as_those_with_channels_first() {
        let planes: Vec<f32> = (0..6 * 3 * 5 * 8u16).map(f32::from).collect();
        // [n, c, h, w] to [n, h, w, c].
        let channels_last = |values: &[f32]| -> Vec<f32> {
            let images = values.chunks(3 * 40);
            images.flat_map(|image| (0..120).map(move |i| image[i % 3 * 40 + i / 3])).collect()
        };
        let batch = |shape: &[usize], values: &[f32]| {
            let pool = BatchSampler::new(vec![Tensor::from_f32(shape, values)], 6, 1, 0).unwrap();
            pool.varied().batch(2).unwrap()[0].to_f32().unwrap()
        };
        let first = batch(&[6, 3, 5, 8], &planes);
        assert_eq!(batch(&[6, 5, 8, 3], &channels_last(&planes)), channels_last(&first));
    }

    #[test]
    fn what_is_no_float_image_stays_as_it_is() {
        let bytes: Vec<u8> = (0..6 * 5 * 8 * 3u16).map(|i| i.to_le_bytes()[0]).collect();
        let floats: Vec<f32> = bytes[..96].iter().copied().map(f32::from).collect();
        let cases = [
            ("bytes", Tensor::new(DType::U8, vec![6, 5, 8, 3], bytes.into()).unwrap()),
            ("a small map", Tensor::from_f32(&[6, 4, 2, 2], &floats)),
        ];
        for (name, images) in cases {
            let pool = BatchSampler::new(vec![images], 6, 1, 0).unwrap();
            assert_eq!(pool.clone().varied().batch(0).unwrap(), pool.batch(0).unwrap(), "{name}");
        }
    }
}
