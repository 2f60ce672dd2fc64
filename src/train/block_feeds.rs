//! Feeds of block reconstruction: block inputs and teacher outputs, with elements mixed and masked at random.

use rand::Rng;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;

use super::RandomStream;
use crate::error::Result;
use crate::ir::Tensor;

/// The fraction of steps before the rounding regularizer sets in.
const FREE: f64 = 0.2;
/// The first and last exponent of the regularizer (Nagel et al. 2020).
const EXPONENTS: [f64; 2] = [20.0, 2.0];
/// The final weight of the rounding regularizer, relative to the reconstruction loss.
const REGULARISATION: f64 = 1.0;
/// The final factor on the sigmoid's argument. A few hundred steps are too few for the regularizer alone: it left four
/// in ten weights between two integers, and rounding them undid the training.
const SHARPEST: f64 = 30.0;

/// The inputs of a block in the student and in the float network, and the teacher's output; samples first.
#[derive(Clone, Debug)]
pub struct BlockData {
    /// The block input behind the quantized preceding blocks.
    pub quantized: Tensor,
    /// The block input in the float network.
    pub float: Tensor,
    /// The output of the float block for `float`.
    pub target: Tensor,
}

/// Returns the feeds of a block's steps.
#[derive(Clone, Debug)]
pub struct BlockFeeds {
    data: BlockData,
    batch: usize,
    masks: Vec<Vec<usize>>,
    steps: u64,
    stream: RandomStream,
}

impl BlockFeeds {
    /// Returns the feeds of `steps` steps on `batch` samples of `data`. `masks` are the shapes of the block's low-bit
    /// activations.
    pub fn new(data: &BlockData, batch: usize, masks: Vec<Vec<usize>>, steps: u64, stream: RandomStream) -> Self {
        Self { data: data.clone(), batch, masks, steps, stream }
    }

    /// Returns the feeds of `step` before the learning rates: samples drawn without replacement, each element taken
    /// from the student or the float network at random, and masks that quantize half of the elements of low-bit
    /// activations (Wei et al. 2022, QDrop).
    ///
    /// # Errors
    /// When the data are not floats.
    pub fn batch(&self, step: u64) -> Result<Vec<Tensor>> {
        let mut rng = self.stream.at(step);
        let BlockData { quantized, float, target } = &self.data;
        let picked = index::sample(&mut rng, target.shape()[0], self.batch).into_vec();
        let [quantized, float, target] = [quantized, float, target].map(|tensor| tensor.picked(&picked));
        let (quantized, float) = (quantized?, float?.to_f32()?);
        let mut x = quantized.to_f32()?;
        let coins = coins(x.len(), &mut rng);
        x.iter_mut().zip(float).zip(coins).for_each(|((x, float), coin)| *x = if coin > 0.0 { *x } else { float });
        let annealing = Tensor::from_f32(&[3], &self.annealing(step));
        let mut feeds = vec![Tensor::from_f32(quantized.shape(), &x), target?, annealing];
        let masks = self.masks.iter();
        feeds.extend(masks.map(|shape| Tensor::from_f32(shape, &self::coins(shape.iter().product(), &mut rng))));
        Ok(feeds)
    }

    /// Returns the exponent and weight of the regularizer (weight 0 at first, then increasing) and the sigmoid's
    /// sharpness.
    fn annealing(&self, step: u64) -> [f32; 3] {
        let done = step as f64 / self.steps.max(1) as f64;
        if done < FREE {
            return [EXPONENTS[0] as f32, 0.0, 1.0];
        }
        let [first, last] = EXPONENTS;
        let way = (done - FREE) / (1.0 - FREE);
        [(first + (last - first) * way) as f32, (REGULARISATION * way) as f32, libm::pow(SHARPEST, way) as f32]
    }
}

/// Returns `n` coin flips, 0 or 1.
fn coins(n: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let mut thrown = vec![0.0; n];
    for throws in thrown.chunks_mut(32) {
        let word = rng.next_u32();
        throws.iter_mut().enumerate().for_each(|(i, coin)| *coin = f32::from(u8::from(word >> i & 1 == 1)));
    }
    thrown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feeds() -> BlockFeeds {
        let tensor = |value: f32| Tensor::from_f32(&[6, 2, 50], &vec![value; 600]);
        let data = BlockData { quantized: tensor(1.0), float: tensor(2.0), target: tensor(3.0) };
        BlockFeeds::new(&data, 4, vec![vec![4, 100]], 100, RandomStream::new(7, 1))
    }

    #[test]
    fn half_of_the_elements_are_those_of_the_student_and_half_are_quantized() {
        let made = feeds().batch(3).unwrap();
        assert_eq!(made, feeds().batch(3).unwrap());
        assert_ne!(made, feeds().batch(4).unwrap());
        assert_eq!(made.iter().map(Tensor::shape).collect::<Vec<_>>(), [&[4, 2, 50][..], &[4, 2, 50], &[3], &[4, 100]]);
        let values: Vec<Vec<f32>> = made.iter().map(|tensor| tensor.to_f32().unwrap()).collect();
        for (values, pair) in [(&values[0], [1.0, 2.0]), (&values[3], [0.0, 1.0])] {
            assert!(values.iter().all(|v| pair.contains(v)));
            let first = values.iter().filter(|v| **v == pair[0]).count();
            assert!((140..260).contains(&first), "{first} of 400");
        }
        assert!(values[1].iter().all(|&v| v == 3.0));
    }

    #[test]
    fn rounding_is_free_first_and_then_ever_steeper() {
        let found: Vec<[f32; 3]> = [0, 19, 20, 60, 99].map(|step| feeds().annealing(step)).to_vec();
        assert_eq!(found[..3], [[20.0, 0.0, 1.0]; 3]);
        let halfway = [11.0, 0.5, 30f32.sqrt()];
        assert!(found[3].iter().zip(halfway).all(|(found, expected)| (found - expected).abs() < 1e-4), "{found:?}");
        assert!(found[4][0] < 2.3 && found[4][1] > 0.98 && found[4][2] > 28.0, "{found:?}");
    }
}
