//! How many samples a step takes.

use super::{Settings, TrainingStep, peak_bytes};
use crate::error::{Error, Result};
use crate::ir::Graph;
use crate::runtime::machine::memory_limit;

/// The part of the machine's memory that the tensors of a step may take.
const SHARE: u64 = 3;

/// Returns the step that `build` makes of a batch, and that batch: the one that the user or the model fixes, else
/// `usual`, or as many as fit into a third of the machine's memory.
///
/// # Errors
/// [`Error::Usage`] when the model fixes another batch than the user's; [`Error::Resources`] when it does not fit.
pub fn fitting_batch(
    graph: &Graph,
    settings: &Settings,
    usual: usize,
    build: &dyn Fn(usize) -> Result<TrainingStep>,
) -> Result<(TrainingStep, usize)> {
    let given = settings.batch;
    let wanted = match (graph.fixed_batch(), given) {
        (Some(fixed), Some(given)) if fixed != given => {
            return Err(Error::Usage(format!(
                "--batch {given}: the model fixes its batch at {fixed}; leave the flag out, or export the model with a \
                 batch of any size"
            )));
        }
        (Some(fixed), _) => fixed,
        (None, given) => given.unwrap_or(usual),
    };
    let limit = memory_limit().map_or(u64::MAX, |bytes| bytes / SHARE);
    let is_fixed = given.is_some() || graph.fixed_batch().is_some();
    fit(wanted, is_fixed, limit, build)
}

fn fit(
    wanted: usize,
    is_fixed: bool,
    limit: u64,
    build: &dyn Fn(usize) -> Result<TrainingStep>,
) -> Result<(TrainingStep, usize)> {
    let mut batch = wanted.max(1);
    loop {
        let step = build(batch)?;
        let bytes = u64::try_from(peak_bytes(&step.graph)).unwrap_or(u64::MAX);
        if bytes <= limit {
            return Ok((step, batch));
        }
        // Weights and moments do not shrink with the batch, so that this takes a few rounds.
        let smaller = (u128::try_from(batch).unwrap_or(u128::MAX) * u128::from(limit)) / u128::from(bytes);
        let smaller = usize::try_from(smaller).unwrap_or(batch).min(batch - 1);
        if is_fixed || smaller == 0 {
            let advice = if smaller == 0 {
                "use a machine with more memory".to_owned()
            } else {
                format!("try --batch {smaller}")
            };
            return Err(Error::Resources(format!(
                "a training step on {batch} sample(s) takes about {}, a third of this machine's memory is {}; {advice}",
                gigabytes(bytes),
                gigabytes(limit)
            )));
        }
        batch = smaller;
    }
}

#[allow(clippy::cast_precision_loss)]
fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / 1e9)
}
