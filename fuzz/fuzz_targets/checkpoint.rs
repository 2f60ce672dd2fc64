//! The bytes of a checkpoint.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = dfq_onnx::fuzzing::checkpoint(data);
});
