//! Drops unused optional outputs, and refuses a BatchNormalization whose statistics are used but whose mode (training
//! or inference) is unknown.
//!
//! Before: `y, mean, var, saved_mean, saved_var = BatchNormalization(x, …)`. After: `y = BatchNormalization(x, …)`.
//! Not touched: outputs that are read or leave the graph, and a BatchNormalization with `training_mode`.

use crate::error::{Error, Result};
use crate::ir::Graph;
use crate::onnx;

/// The first operator set in which BatchNormalization has the attribute `training_mode`.
const TRAINING_MODE: i64 = 14;

/// Returns the number of nodes that lost outputs.
///
/// # Errors
/// [`Error::Unsupported`] naming a BatchNormalization before operator set 14 whose statistics are read.
pub fn drop_unread_outputs(graph: &mut Graph) -> Result<usize> {
    let dropped = onnx::drop_unread_outputs(graph).len();
    let mut norms = graph.nodes.iter().filter(|node| node.is("BatchNormalization") && node.outputs.len() > 1);
    match norms.next().filter(|_| graph.opset() < TRAINING_MODE) {
        Some(norm) => Err(Error::unsupported(
            graph.describe(norm),
            "its running or saved statistics are read, which means training mode; export the model in inference mode \
             (model.eval())",
        )),
        None => Ok(dropped),
    }
}
