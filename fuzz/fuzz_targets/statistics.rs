//! The bytes of a side file of statistics, JSON or .npz.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = dfq_onnx::fuzzing::statistics(data);
});
