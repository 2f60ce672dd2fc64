//! Models that commands take for quantized ones, and what else is named by mistake.

use std::path::Path;

use super::say;
use crate::digest::sha256_of_file;
use crate::error::{Error, Result};
use crate::ir::{Graph, is_quantized};
use crate::onnx;

/// Returns the quantized model in the file at `path`.
///
/// # Errors
/// Those of [`onnx::load`]; [`Error::Unsupported`] for a float model.
pub(super) fn load_quantized(path: &Path) -> Result<Graph> {
    let graph = onnx::load(path)?;
    if is_quantized(&graph) { Ok(graph) } else { Err(not_quantized(path)) }
}

/// Returns a float model and a quantized one that is to be compared with it.
///
/// # Errors
/// Those of [`load_quantized`]; [`Error::Usage`] for one file named twice, and for both in the wrong order.
pub(super) fn load_pair(original: &Path, quantized: &Path) -> Result<(Graph, Graph)> {
    let graphs = (onnx::load(original)?, onnx::load(quantized)?);
    let (first, second) = (original.display(), quantized.display());
    let asked = "give the float model first and the quantized one second";
    if is_same_file(original, quantized) {
        return Err(Error::Usage(format!("{first} and {second} are the same model; {asked}")));
    }
    match (is_quantized(&graphs.0), is_quantized(&graphs.1)) {
        (true, false) => Err(Error::Usage(format!("{first} is quantized and {second} is not; {asked}"))),
        (false, false) => Err(not_quantized(quantized)),
        (true, true) => {
            say(&format!("warning: {first} is quantized: errors are relative to it, not to a float model"));
            Ok(graphs)
        }
        (false, true) => Ok(graphs),
    }
}

fn not_quantized(path: &Path) -> Error {
    let message = "is not quantized: it has no QuantizeLinear, no DequantizeLinear and no operator on integers; name a \
                   quantized model (`dfq-onnx quantize` makes one, `dfq-onnx inspect` tells of float ones)";
    Error::unsupported(path.display().to_string(), message)
}

/// Returns whether both paths lead to one file, or to two with the same bytes.
fn is_same_file(a: &Path, b: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().ok();
    let bytes = |path: &Path| std::fs::metadata(path).ok().map(|found| found.len());
    let digest = |path: &Path| sha256_of_file(path).ok();
    (real(a).is_some() && real(a) == real(b)) || (bytes(a) == bytes(b) && digest(a).is_some() && digest(a) == digest(b))
}
