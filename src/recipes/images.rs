//! Inputs that a student is trained on, and those that stages are judged by: images that were made for the network, and
//! dead leaves.

use std::cell::OnceCell;
use std::ops::Range;

use crate::error::Result;
use crate::ir::{Graph, Tensor};
use crate::stats::InputStatistics;

/// Keeps the inputs of training apart from those of the checks.
const SEED: u64 = 0x6466_7174;
/// Keep dead leaves beside images apart from those in place of them, and those that are held out from the others.
const SEEN_BESIDE: u64 = 0x6265_7369_6465;
const HELD_OUT_BESIDE: u64 = 0x6865_6c64_6c76;

/// Inputs that are trained on, and those that stages are judged by. All of them are made once, when they are first asked
/// for.
#[derive(Debug)]
pub struct Images {
    made: OnceCell<Vec<Tensor>>,
    leaves: Leaves,
    /// How many of them are trained on, and how many there are.
    counts: [usize; 2],
    /// Dead leaves, into which nothing of the network went, that lie beside them: to be trained on, and held out.
    beside: [Beside; 2],
}

/// What dead leaves follow from.
#[derive(Clone, Debug)]
pub(super) struct Leaves {
    pub float: Graph,
    pub input: InputStatistics,
    pub seed: u64,
    pub threads: usize,
}

impl Leaves {
    /// Returns `samples` of them, others for every `purpose`.
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

    /// Returns `images` with the leaves behind them.
    fn behind(&self, images: Vec<Tensor>, leaves: &Leaves) -> Result<Vec<Tensor>> {
        if self.samples == 0 {
            return Ok(images);
        }
        let leaves = once(&self.made, || leaves.made(self.samples, self.purpose))?;
        images.iter().zip(leaves).map(|(images, leaves)| Tensor::joined(&[images, leaves])).collect()
    }
}

impl Images {
    /// Returns `ready` images, else dead leaves in place of them, of which `counts` are trained on and there in all, with
    /// as many leaves as `beside` says beside those that are trained on, and beside those that are held out.
    pub(super) fn new(ready: Option<Vec<Tensor>>, leaves: Leaves, counts: [usize; 2], beside: [usize; 2]) -> Self {
        let beside = [Beside::new(beside[0], SEEN_BESIDE), Beside::new(beside[1], HELD_OUT_BESIDE)];
        Self { made: ready.map_or_else(OnceCell::new, OnceCell::from), leaves, counts, beside }
    }

    /// Returns those that are trained on, one tensor for each input of the network; dead leaves last.
    ///
    /// # Errors
    /// When inputs cannot be made up.
    pub fn seen(&self) -> Result<Vec<Tensor>> {
        self.beside[0].behind(self.part(0..self.counts[0])?, &self.leaves)
    }

    /// Returns those that are held out.
    ///
    /// # Errors
    /// When inputs cannot be made up.
    pub fn held_out(&self) -> Result<Vec<Tensor>> {
        self.beside[1].behind(self.part(self.counts[0]..self.counts[1])?, &self.leaves)
    }

    /// Returns how many images are trained on, and how many there are.
    pub(super) fn counts(&self) -> [usize; 2] {
        self.counts
    }

    /// Returns how many dead leaves lie beside those that are trained on, and beside those that are held out.
    pub(super) fn beside(&self) -> [usize; 2] {
        [self.beside[0].samples, self.beside[1].samples]
    }

    fn part(&self, range: Range<usize>) -> Result<Vec<Tensor>> {
        let all = once(&self.made, || self.leaves.made(self.counts[1], SEED))?;
        all.iter().map(|tensor| tensor.rows(range.clone())).collect()
    }
}

/// Returns what the cell holds; `make` fills an empty one.
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
