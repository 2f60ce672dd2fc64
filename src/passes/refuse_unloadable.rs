//! Refuses models that ONNX Runtime refuses, before any other work.

use super::convert_floats::is_converted;
use super::set_aside::is_foreign;
use crate::error::{Error, Result};
use crate::ir::Graph;
use crate::onnx::opset::{misspelt, out_of_range, too_new};
use crate::runtime::{Engine, Optimisation, SessionOptions};
use crate::shape;

/// Checks that `engine` loads the model unchanged if it is ONNX Runtime, else that every operator of the default domain
/// exists. Exempt are operators of domains that ONNX Runtime may lack (see [`super::set_aside()`]), and models in other
/// floating-point types, which are checked after conversion to float32.
///
/// # Errors
/// [`Error::Unsupported`] naming a node whose operator does not exist at the model's opset, [`Error::Shape`] naming one
/// whose inputs cannot go together, else the error of the engine.
pub fn refuse_unloadable(graph: &Graph, engine: Option<&dyn Engine>) -> Result<()> {
    let Some(engine) = engine else { return misspelt(graph).map_or(Ok(()), Err) };
    let options = SessionOptions { optimisation: Optimisation::None, ..SessionOptions::default() };
    let error = match engine.load(graph, &options) {
        Ok(_) => return Ok(()),
        Err(error @ Error::Resources(_)) => return Err(error),
        Err(error) => error,
    };
    let named = || misspelt(graph).or_else(|| out_of_range(graph.opset())).or_else(|| too_new(graph));
    if let Some(named) = named() {
        return Err(named);
    }
    let values = || graph.value_ids().map(|id| graph.value(id));
    let is_converted = values().filter_map(|value| value.dtype).any(is_converted);
    if is_converted || graph.nodes.iter().any(|node| is_foreign(node, graph.opset())) {
        return Ok(());
    }
    // Sizes that fit no number leave nothing of the engine's message but arithmetic.
    Err(shape::facts(graph).err().unwrap_or(error))
}
