//! Entry points of the fuzzers in `fuzz/` and of the mutated models in the tests: bytes in, a result or an error out, and
//! never a panic. Not part of the library's interface.

use std::io::Write;
use std::path::Path;

use bytes::Bytes;

use crate::data::read_arrays;
use crate::error::{Error, Result};
use crate::plan::{Policy, plan};
use crate::runtime::TractEngine;
use crate::stats::{guess_input, propagate, read_batch_norms, read_statistics};
use crate::train::Checkpoint;
use crate::{onnx, passes, shape};

/// The operator set that models are upgraded to.
const OPSET: i64 = 21;

/// Does with the bytes of a model file what `quantize` does up to the plan, constants folded by tract.
///
/// # Errors
/// Those of the stages.
pub fn model(bytes: Bytes) -> Result<()> {
    let mut graph = onnx::decode(bytes)?;
    passes::normalise(&mut graph, &TractEngine)?;
    passes::validate(&graph)?;
    let norms = read_batch_norms(&graph);
    let input = guess_input(&graph, &norms);
    passes::fold(&mut graph)?;
    onnx::upgrade(&mut graph, OPSET)?;
    shape::infer(&mut graph)?;
    plan(&graph, &Policy::default())?;
    propagate(&graph, &norms, &input.moments());
    onnx::encode(&graph)?;
    Ok(())
}

/// Reads the bytes of an `.npz` or `.npy` file.
///
/// # Errors
/// Those of [`read_arrays`].
pub fn arrays(bytes: &[u8]) -> Result<()> {
    in_file(bytes, ".npz", |path| read_arrays(path).map(|_| ()))
}

/// Reads the bytes of a checkpoint.
///
/// # Errors
/// Those of [`Checkpoint::read`].
pub fn checkpoint(bytes: &[u8]) -> Result<()> {
    in_file(bytes, ".safetensors", |path| Checkpoint::read(path).map(|_| ()))
}

/// Reads the bytes of a side file of statistics.
///
/// # Errors
/// Those of [`read_statistics`].
pub fn statistics(bytes: &[u8]) -> Result<()> {
    in_file(bytes, ".json", |path| read_statistics(path).map(|_| ()))
}

fn in_file(bytes: &[u8], ending: &str, read: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let made = tempfile::Builder::new().suffix(ending).tempfile();
    let mut file = made.map_err(Error::write(&std::env::temp_dir()))?;
    file.write_all(bytes).map_err(Error::write(file.path()))?;
    read(file.path())
}
