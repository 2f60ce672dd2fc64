//! Batches of training inputs in the phases of a game.

use std::rc::Rc;

use super::{Images, Lab};
use crate::error::{Error, Result};
use crate::expr::Expr;
use crate::ir::Graph;
use crate::train::{BatchSampler, Scope, input_feeds};

/// The training inputs, from which batches are drawn and augmented anew in every step.
#[derive(Clone, Debug)]
pub struct TrainingBatches {
    images: Rc<Images>,
    float: Graph,
    seed: u64,
    stage: u64,
}

impl Lab<'_> {
    /// Returns the training inputs. `stage` separates their batches from those of other stages.
    pub fn batches(&self, stage: u64) -> TrainingBatches {
        TrainingBatches { images: self.images(), float: self.float.clone(), seed: self.context.seed, stage }
    }

    /// Checks that there are enough training inputs for a batch.
    ///
    /// # Errors
    /// [`Error::Usage`] for a larger batch, [`Error::Unsupported`] where the model fixes it.
    pub fn check_batch(&self, batch: usize) -> Result<()> {
        let [seen, all] = self.images.counts();
        if seen + self.images.beside()[0] >= batch {
            return Ok(());
        }
        if self.float.fixed_batch().is_some() {
            let message = format!("fixes its batch at {batch}, and {all} images are too few for that; make more");
            return Err(Error::unsupported("model", message));
        }
        let message = format!("{all} images are too few for steps of {batch}; make more, or give a smaller --batch");
        Err(Error::Usage(message))
    }
}

impl TrainingBatches {
    /// Returns the network's inputs in a phase, in the order of [`Graph::fed_inputs`].
    ///
    /// # Errors
    /// An input of unknown shape.
    pub fn inputs<'b>(&self, scope: &Scope<'b>) -> Result<Vec<Expr<'b>>> {
        let batch = scope.batch();
        let Self { images, seed, stage, .. } = self.clone();
        // Generated only after the checkpoint was found to belong to this run.
        let mut sampler: Option<BatchSampler> = None;
        Ok(scope.feeds(&input_feeds(&self.float, batch)?, move |_, step| {
            if sampler.is_none() {
                sampler = Some(BatchSampler::new(images.seen()?, batch, seed, stage)?.varied());
            }
            sampler.as_ref().map_or(Ok(Vec::new()), |sampler| sampler.batch(step))
        }))
    }
}
