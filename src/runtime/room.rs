//! Refuses graphs that do not fit in memory, by their shapes and before any allocation.

use super::machine::memory_limit;
use crate::error::{Error, Result};
use crate::ir::Graph;
use crate::shape::{Demand, footprint};

/// The largest share of memory for one tensor: runtimes, checks and conversions hold several copies at a time.
const OF_ONE_TENSOR: u64 = 8;
/// The largest share of memory for all tensors of a run.
const OF_A_RUN: u64 = 2;
/// A tensor above this many bytes, and this many times all inputs and initializers, points to a wrong attribute.
const ABSURD: (usize, usize) = (128 << 20, 4096);
/// The assumed memory of a machine that does not report it.
const UNKNOWN: u64 = 16 << 30;

/// Further advice when memory is short.
const ADVICE: &str = "give fewer --samples or a smaller --input-shape, or use a machine with more memory";

/// Checks that a run of `graph` on one sample fits in memory, not counting initializers. Graphs with contradictory
/// shapes pass: inference or loading refuses them.
///
/// # Errors
/// [`Error::Resources`] naming the node or the input.
pub fn refuse_oversized(graph: &Graph) -> Result<()> {
    let Ok(needed) = footprint(graph) else { return Ok(()) };
    let memory = memory_limit().unwrap_or(UNKNOWN);
    let of_one = memory / OF_ONE_TENSOR;
    if let Some(large) = needed.input.iter().find(|input| exceeds(input, of_one)) {
        return Err(too_large(large, memory));
    }
    let is_absurd = |bytes: usize| bytes >= ABSURD.0 && bytes / ABSURD.1 >= needed.given_bytes;
    if let Some(large) = needed.result.iter().find(|result| is_absurd(result.bytes)) {
        return Err(Error::Resources(format!(
            "{}: a tensor of {}, of inputs and initializers of {} bytes, is more than any network needs; check the node's \
             attributes and the sizes that it is given",
            large.place,
            shown(large.bytes),
            needed.given_bytes
        )));
    }
    if let Some(large) = needed.result.iter().find(|result| exceeds(result, of_one)) {
        return Err(too_large(large, memory));
    }
    let all = Demand { place: "the tensors of one run".to_owned(), bytes: needed.peak_bytes };
    if exceeds(&all, memory / OF_A_RUN) { Err(too_large(&all, memory)) } else { Ok(()) }
}

fn exceeds(demand: &Demand, limit: u64) -> bool {
    u64::try_from(demand.bytes).unwrap_or(u64::MAX) > limit
}

fn too_large(demand: &Demand, memory: u64) -> Error {
    let (place, bytes) = (&demand.place, shown(demand.bytes));
    let memory = memory as f64 / 1e9;
    Error::Resources(format!("{place}: {bytes} and copies of it does not fit in memory, {memory:.1} GB here; {ADVICE}"))
}

/// Returns a number of bytes for messages.
fn shown(bytes: usize) -> String {
    format!("{:.1} GB", bytes as f64 / 1e9)
}
