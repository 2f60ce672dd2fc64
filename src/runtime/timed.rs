//! Logs the time spent inside a runtime's library.

use std::time::Instant;

/// Returns the result of `work` inside `runtime`, and logs its wall time as `seconds` at the trace level.
pub(super) fn timed<T>(runtime: &'static str, work: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let result = work();
    tracing::trace!(runtime, seconds = started.elapsed().as_secs_f64());
    result
}
