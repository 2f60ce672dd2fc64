//! The ordered list of passes that remove exporter artifacts from a graph.

use super::{
    convert_floats, drop_identity, drop_unread_outputs, fold_affine, fold_constants, freeze_initializer_inputs,
    inline_branches, lift_constants,
};
use crate::error::Result;
use crate::ir::{Graph, check};
use crate::runtime::{Engine, refuse_oversized};
use crate::shape;

/// One step of [`normalise`]; returns its number of changes.
pub type Pass = fn(&mut Graph, &dyn Engine) -> Result<usize>;

/// The passes of [`normalise`] in order.
pub const NORMALISE: &[(&str, Pass)] = &[
    // First: what follows takes an initializer for a constant, which a caller may not then replace.
    ("freeze_initializer_inputs", |graph, _| freeze_initializer_inputs(graph)),
    // Before all that asks whether an operand is constant.
    ("lift_constants", |graph, _| lift_constants(graph)),
    // Before convert_floats: a branch that is taken is converted with the rest, an If that stays keeps its types.
    ("inline_branches", inline_branches),
    // Before types are inferred from those that it changes.
    ("convert_floats", |graph, _| convert_floats(graph)),
    // Before drop_identity, which compares the element types that a Cast stands between.
    ("infer", |graph, _| infer(graph)),
    // Before fold_constants, so that nothing is run only to be copied.
    ("drop_identity", |graph, _| drop_identity(graph)),
    ("fold_constants", fold_constants),
    ("sweep", |graph, _| sweep(graph)),
    // Behind sweep: what only dead nodes read is not read.
    ("drop_unread_outputs", |graph, _| drop_unread_outputs(graph)),
    // Folding made more shapes known, which later stages read too.
    ("infer", |graph, _| infer(graph)),
    // It needs ranks, and constants that were computed from others.
    ("fold_affine", |graph, _| fold_affine(graph)),
    // Last: passes make up names too.
    ("rename_duplicate_nodes", |graph, _| Ok(graph.rename_duplicate_nodes())),
];

/// Runs the passes and returns each with its number of changes.
///
/// `engine` computes the folded constants. Names of graph inputs and outputs stay. In debug builds the graph is checked
/// after every pass.
///
/// # Errors
/// Those of [`shape::infer`] and of `engine`; [`crate::Error::Resources`] where the tensors of one run do not fit in
/// memory.
pub fn normalise(graph: &mut Graph, engine: &dyn Engine) -> Result<Vec<(&'static str, usize)>> {
    let mut report = Vec::with_capacity(NORMALISE.len());
    for (name, pass) in NORMALISE {
        let changes = pass(graph, engine)?;
        tracing::debug!("{name}: {changes} changes");
        if cfg!(debug_assertions) {
            check(graph)?;
        }
        report.push((*name, changes));
    }
    refuse_oversized(graph)?;
    Ok(report)
}

fn infer(graph: &mut Graph) -> Result<usize> {
    let known = |graph: &Graph| graph.value_ids().filter(|&id| graph.value(id).static_shape().is_some()).count();
    let before = known(graph);
    shape::infer(graph)?;
    Ok(known(graph).saturating_sub(before))
}

fn sweep(graph: &mut Graph) -> Result<usize> {
    let before = graph.nodes.len();
    graph.sweep();
    Ok(before - graph.nodes.len())
}
