//! Removes initializers from the list of graph inputs.

use crate::error::Result;
use crate::ir::Graph;

/// The first file-format version in which an initializer need not be listed as an input.
pub(super) const SEPARATE_INITIALIZERS: i64 = 4;

/// Returns the number of graph inputs that were initializers and are now constants only.
///
/// Matched: every input with an initializer. Refused: nothing; a caller can no longer replace these defaults. Before ->
/// after: `inputs x, w (= initializer w)` -> `inputs x`. The file-format version rises to 4 where it is lower.
///
/// # Errors
/// None.
pub fn freeze_initializer_inputs(graph: &mut Graph) -> Result<usize> {
    let fed = graph.fed_inputs();
    let frozen = graph.inputs.len() - fed.len();
    graph.inputs = fed;
    if frozen > 0 {
        graph.ir_version = graph.ir_version.max(SEPARATE_INITIALIZERS);
    }
    Ok(frozen)
}
