//! The training inputs of a student and the held-out inputs that stages are judged by: synthetic images and dead
//! leaves.

use std::cell::OnceCell;
use std::ops::Range;

use crate::error::Result;
use crate::ir::{Graph, Tensor};
use crate::stats::InputStatistics;

/// Separates training inputs from those of the checks.
const SEED: u64 = 0x6466_7174;
/// Separate dead leaves beside images from those in place of images, and held-out ones from training ones.
const SEEN_BESIDE: u64 = 0x6265_7369_6465;
const HELD_OUT_BESIDE: u64 = 0x6865_6c64_6c76;

/// Training inputs and held-out inputs, each generated once, on first use.
#[derive(Debug)]
pub struct Images {
    made: OnceCell<Vec<Tensor>>,
    leaves: Leaves,
    /// The number of training images, and of all images.
    counts: [usize; 2],
    /// Dead leaves beside the images, which depend on nothing in the network: for training, and held out.
    beside: [Beside; 2],
}

/// The settings that determine dead leaves.
#[derive(Clone, Debug)]
pub(super) struct Leaves {
    pub float: Graph,
    pub input: InputStatistics,
    pub seed: u64,
    pub threads: usize,
}

impl Leaves {
    /// Returns `samples` dead leaves, different for every `purpose`.
    fn made(&self, samples: usize, purpose: u64) -> Result<Vec<Tensor>> {
        self.input.synthetic(&self.float, samples, self.seed ^ purpose, self.threads)
    }
}

/// Dead leaves beside images.
#[derive(Debug)]
struct Beside {
    samples: usize,
    purpose: u64,
    made: OnceCell<Vec<Tensor>>,
}

impl Beside {
    fn new(samples: usize, purpose: u64) -> Self {
        Self { samples, purpose, made: OnceCell::new() }
    }

    /// Returns `images` followed by the leaves.
    fn behind(&self, images: Vec<Tensor>, leaves: &Leaves) -> Result<Vec<Tensor>> {
        if self.samples == 0 {
            return Ok(images);
        }
        let leaves = once(&self.made, || leaves.made(self.samples, self.purpose))?;
        images.iter().zip(leaves).map(|(images, leaves)| Tensor::joined(&[images, leaves])).collect()
    }
}

impl Images {
    /// Returns the inputs: `ready` images, else dead leaves in their place. `counts` are the numbers of training images
    /// and of all images, `beside` the numbers of dead leaves beside training images and beside held-out ones.
    pub(super) fn new(ready: Option<Vec<Tensor>>, leaves: Leaves, counts: [usize; 2], beside: [usize; 2]) -> Self {
        let beside = [Beside::new(beside[0], SEEN_BESIDE), Beside::new(beside[1], HELD_OUT_BESIDE)];
        Self { made: ready.map_or_else(OnceCell::new, OnceCell::from), leaves, counts, beside }
    }

    /// Returns the training inputs, one tensor per network input; dead leaves last.
    ///
    /// # Errors
    /// When inputs cannot be generated.
    pub fn seen(&self) -> Result<Vec<Tensor>> {
        self.beside[0].behind(self.part(0..self.counts[0])?, &self.leaves)
    }

    /// Returns the held-out inputs.
    ///
    /// # Errors
    /// When inputs cannot be generated.
    pub fn held_out(&self) -> Result<Vec<Tensor>> {
        self.beside[1].behind(self.part(self.counts[0]..self.counts[1])?, &self.leaves)
    }

    /// Returns the number of training images, and of all images.
    pub fn counts(&self) -> [usize; 2] {
        self.counts
    }

    /// Returns the number of dead leaves beside the training images, and beside the held-out images.
    pub fn beside(&self) -> [usize; 2] {
        [self.beside[0].samples, self.beside[1].samples]
    }

    fn part(&self, range: Range<usize>) -> Result<Vec<Tensor>> {
        let all = once(&self.made, || self.leaves.made(self.counts[1], SEED))?;
        all.iter().map(|tensor| tensor.rows(range.clone())).collect()
    }
}

/// Returns the cell's contents; `make` fills an empty cell.
fn once(cell: &OnceCell<Vec<Tensor>>, make: impl FnOnce() -> Result<Vec<Tensor>>) -> Result<&Vec<Tensor>> {
    match cell.get() {
        Some(made) => Ok(made),
        None => {
            let made = make()?;
            Ok(cell.get_or_init(|| made))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::DType;
    use crate::ir::Dim;

    #[test]
    fn leaves_are_rendered_once_and_others_are_held_out() {
        let mut float = Graph::default();
        let x = float.add_value("x");
        let shape = [Dim::Symbol("N".to_owned()), Dim::Known(3), Dim::Known(8), Dim::Known(8)];
        (float.value_mut(x).dtype, float.value_mut(x).shape) = (Some(DType::F32), Some(shape.to_vec()));
        float.inputs.push(x);
        let leaves = || Leaves { float: float.clone(), input: InputStatistics::assumed(), seed: 3, threads: 1 };
        for ready in [None, Some(vec![Tensor::from_f32(&[8, 3, 8, 8], &[0.5; 8 * 192])])] {
            let images = Images::new(ready, leaves(), [6, 8], [4, 2]);
            let (seen, held_out) = (images.seen().unwrap(), images.held_out().unwrap());
            assert_eq!((seen[0].shape()[0], held_out[0].shape()[0]), (10, 4));
            let at = |images: &Images| [0, 1].map(|i| images.beside[i].made.get().unwrap()[0].bytes().as_ptr());
            let first = at(&images);
            assert_eq!((images.seen().unwrap(), images.held_out().unwrap()), (seen.clone(), held_out.clone()));
            assert_eq!(at(&images), first, "the same leaves, not others like them");
            assert_ne!(seen[0].rows(6..8).unwrap(), held_out[0].rows(2..4).unwrap());
        }
    }
}
