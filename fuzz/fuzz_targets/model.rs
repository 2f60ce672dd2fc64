//! The bytes of a model file, as far as the plan.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = dfq_onnx::fuzzing::model(Bytes::copy_from_slice(data));
});
