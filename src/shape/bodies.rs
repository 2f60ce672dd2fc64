//! Outputs of control flow, from the declarations of its bodies.

use super::Fact;
use crate::ir::Node;

/// Returns the facts of the outputs of If, Loop or Scan: their element types. Shapes differ from run to run.
pub(super) fn outputs_of_bodies(node: &Node) -> Vec<Fact> {
    // The first output of a Loop's body is its condition.
    let skipped = usize::from(node.is("Loop"));
    let dtype = |i: usize| {
        node.bodies().find_map(|(_, body)| {
            let output = *body.graph.outputs.get(i + skipped)?;
            body.graph.value(output).dtype
        })
    };
    (0..node.outputs.len()).map(|i| Fact::new(dtype(i), None)).collect()
}
