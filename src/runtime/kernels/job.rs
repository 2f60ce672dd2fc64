//! Jobs: plain loops over slices, compiled for every set of instructions.

use super::Instructions;
use super::instructions::Kind;

/// One piece of work; its `run` is always inlined.
pub(super) trait Job {
    fn run(self);
}

/// Runs a piece of work with the given instructions.
#[allow(unsafe_code)]
pub(super) fn dispatch(best: Instructions, job: impl Job) {
    match best.0 {
        // SAFETY of both: `Instructions` are there by construction.
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512 => unsafe { avx512(job) },
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2 => unsafe { avx2(job) },
        Kind::Portable => job.run(),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn avx512(job: impl Job) {
    job.run();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2(job: impl Job) {
    job.run();
}
