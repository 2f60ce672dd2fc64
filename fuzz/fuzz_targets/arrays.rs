//! The bytes of an .npz or .npy file.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = dfq_onnx::fuzzing::arrays(data);
});
