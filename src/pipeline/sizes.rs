//! Sizes that a file leaves open: fixed for planning, calibration and training, and open again in the written file.

use std::borrow::Cow;

use super::Config;
use super::prepare::Prepared;
use crate::error::Result;
use crate::ir::Graph;
use crate::passes::{self, Aside, DeclaredShapes};
use crate::runtime::Engines;
use crate::shape;
use crate::solution::Solved;

/// The fixed sizes of a float network whose file leaves them open.
pub(super) struct Fixed {
    pub declared: Option<DeclaredShapes>,
    pub batch: Option<usize>,
}

/// Gives the float network's inputs the planned sizes; its nodes stay valid for all others.
pub(super) fn fix_sizes(float: &mut Graph, original: &Graph, config: &Config) -> Result<Fixed> {
    let declared = passes::declared_shapes(original).with_numbers_of(float);
    let fixed = passes::fix_shapes(float, &config.input_shapes)? + passes::settle_batch(float);
    shape::infer(float)?;
    let freed = float.fixed_batch().filter(|_| passes::free_batch(float) > 0);
    Ok(Fixed { declared: (fixed > 0).then_some(declared), batch: freed.filter(|_| original.fixed_batch().is_some()) })
}

/// Returns `quantized` in the form that is written: with the axes open that the float model's file leaves open, and
/// with the operators that the engines here do not support.
pub(super) fn as_written<'a>(
    quantized: &'a Graph,
    declared: Option<&DeclaredShapes>,
    aside: Option<&Aside>,
) -> Result<Cow<'a, Graph>> {
    let mut written = Cow::Borrowed(quantized);
    if let Some(declared) = declared {
        passes::restore_shapes(written.to_mut(), declared)?;
    }
    if let Some(aside) = aside {
        passes::put_back(written.to_mut(), aside)?;
    }
    Ok(written)
}

/// Returns `graph` with the input shapes of `fixed`.
pub(super) fn with_inputs_of(mut graph: Graph, fixed: &Graph) -> Graph {
    for id in graph.fed_inputs() {
        if let Some(same) = fixed.find(graph.name_of(id)) {
            graph.value_mut(id).shape.clone_from(&fixed.value(same).shape);
        }
    }
    graph
}

/// Returns `graph` with constants folded at the sizes fixed for planning.
pub(super) fn at_fixed_sizes(graph: &Graph, engines: &Engines) -> Result<Graph> {
    let mut fixed = graph.clone();
    passes::fold_constants(&mut fixed, engines.main())?;
    shape::infer(&mut fixed)?;
    Ok(fixed)
}

/// Returns `solved` with its float network as [`at_fixed_sizes`], where sizes were fixed.
pub(super) fn solved_at_fixed_sizes(solved: &Solved, prepared: &Prepared, engines: &Engines) -> Result<Solved> {
    let mut fixed = solved.clone();
    if prepared.declared.is_some() {
        fixed.float = at_fixed_sizes(&solved.float, engines)?;
    }
    Ok(fixed)
}
