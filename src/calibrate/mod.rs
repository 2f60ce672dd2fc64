//! Calibrates the activation grids of a plan: from the moments that batch-normalization statistics imply, else from
//! synthetic inputs run through the float network.

mod context;
mod patches;
mod sample;
mod seen;

pub use context::CalibrationContext;
pub use patches::patches;
pub use sample::{ChannelStatistics, SAMPLES, Sample, normalized, push, replace_reads, sample, samples_within, tap};
pub use seen::{Means, Seen, column_blocks, column_means};

use crate::error::{Error, Result};
use crate::ir::{DType, Graph, ValueId};
use crate::parallel;
use crate::plan::{Activation, Plan, Role};
use crate::quant::{Grid, Histogram, activation_grid};
use crate::runtime::{PIECE_BYTES, SessionOptions, run_in_batches};
use crate::solution::RangeSource;
use crate::stats::{self, InputSource, Moments, propagate};

/// Returns one grid per activation of the plan and the source of each range.
///
/// # Errors
/// When the engine cannot run the float graph.
pub fn calibrate(float: &Graph, plan: &Plan, context: &CalibrationContext) -> Result<(Vec<Grid>, Vec<RangeSource>)> {
    let moments = match context.norms {
        // Synthetic inputs give the whole distribution of a tensor, not only its mean and standard deviation.
        _ if context.images.is_some() => std::collections::HashMap::new(),
        [] => std::collections::HashMap::new(),
        norms => propagate(float, norms, &context.input.moments()),
    };
    let known = |activation: &Activation| -> Option<Moments> {
        let roots = roots(float, activation).ok()?;
        let all: Option<Vec<&Moments>> = roots.iter().map(|id| moments.get(id)).collect();
        Some(Moments(all?.into_iter().flat_map(|m| m.0.iter().copied()).collect()))
    };
    let grid = |activation: &Activation| -> Option<(Grid, RangeSource)> {
        let input = context.input;
        match known(activation) {
            _ if is_input(float, activation) && input.source != InputSource::Data => {
                let grid = Grid::per_tensor(activation.scheme, input.lo as f32, input.hi as f32);
                Some((grid, RangeSource::Input))
            }
            Some(m) => Some((fitted(activation, &Histogram::of_moments(&m)), RangeSource::Statistics)),
            None => None,
        }
    };
    let mut grids = parallel::map(context.threads, &plan.activations, grid);
    let unknown: Vec<usize> = (0..grids.len()).filter(|&i| grids[i].is_none()).collect();
    for (index, histogram) in unknown.iter().zip(observe(float, plan, &unknown, context)?) {
        let grid = fitted(&plan.activations[*index], &histogram);
        grids[*index] = Some((grid, RangeSource::SyntheticInputs));
    }
    Ok(grids.into_iter().flatten().unzip())
}

/// Returns the grid of least error, extended to the interval that the plan requires and clipped to the values that the
/// tensors can take.
fn fitted(activation: &Activation, histogram: &Histogram) -> Grid {
    let grid = activation_grid(activation.scheme, histogram);
    let found = grid.range(0);
    let [least, most] = activation.limits;
    let (lo, hi) = (found.0.max(least.unwrap_or(found.0)), found.1.min(most.unwrap_or(found.1)));
    let [from, to] = activation.reach.unwrap_or([lo, hi]);
    let (lo, hi) = (lo.min(from), hi.max(to));
    if (lo, hi) == found { grid } else { Grid::per_tensor(activation.scheme, lo, hi) }
}

fn is_input(float: &Graph, activation: &Activation) -> bool {
    let from_input = |name: &String| float.find(name).is_some_and(|id| stats::is_network_input(float, id));
    activation.role == Role::Image && activation.roots.iter().all(from_input)
}

fn roots(float: &Graph, activation: &Activation) -> Result<Vec<ValueId>> {
    let find = |name: &String| {
        float.find(name).ok_or_else(|| Error::Plan(format!("the plan names tensor \"{name}\", which the graph lacks")))
    };
    activation.roots.iter().map(find).collect()
}

/// Returns the histogram of each activation in `wanted` over synthetic inputs.
fn observe(float: &Graph, plan: &Plan, wanted: &[usize], context: &CalibrationContext) -> Result<Vec<Histogram>> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let mut tapped = float.clone();
    let mut taps = Vec::with_capacity(wanted.len());
    tapped.outputs.clear();
    for &index in wanted {
        let ids = roots(float, &plan.activations[index])?;
        taps.push(ids.len());
        for id in ids {
            tapped.value_mut(id).dtype.get_or_insert(DType::F32);
            tapped.outputs.push(id);
        }
    }
    let most = context.images.map_or(SAMPLES, |images| images[0].shape()[0]);
    let inputs = context.inputs(float, samples_within(&tapped, &tapped.outputs, most))?;
    let mut session = context
        .engine
        .load(&tapped, &SessionOptions { piece_bytes: Some(PIECE_BYTES), ..SessionOptions::default() })?;
    let outputs = run_in_batches(session.as_mut(), &tapped, &inputs)?;
    let mut outputs = outputs.iter();
    taps.into_iter()
        .zip(wanted)
        .map(|(n, &index)| {
            let mut values = Vec::new();
            for tensor in outputs.by_ref().take(n) {
                values.extend(tensor.to_f32()?);
            }
            if let Some(value) = values.iter().find(|v| !v.is_finite()) {
                let names = plan.activations[index].roots.join("\", \"");
                let message = format!(
                    "becomes {value} on synthetic inputs; tell how inputs are scaled (--mean and --std, or --input-range)"
                );
                return Err(Error::malformed(format!("tensor \"{names}\""), message));
            }
            Ok(Histogram::of_values(&values))
        })
        .collect()
}
