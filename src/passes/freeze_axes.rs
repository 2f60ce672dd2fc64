//! Fixes open axes that select the branch of an If that contains layers.

use super::{GivenShape, fix_shapes, inline_branches};
use crate::error::Result;
use crate::ir::{Graph, Node};
use crate::plan::is_layer;
use crate::runtime::Engine;
use crate::shape;

/// An axis that is fixed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrozenAxis {
    /// The input.
    pub input: String,
    /// The axis.
    pub axis: usize,
    /// Its size.
    pub size: usize,
}

/// Fixes the fewest axes, at their sizes in `shapes`, that select the branch of an If with layers inside, inlines that
/// branch, and returns those axes.
///
/// Refused: an If that no size decides, and an If without layers, which may stay.
/// Before -> after: `x: [N, 3, H, W], y = If(H == 32) then_branch={..Conv..}` with `x: [1, 3, 32, 32]` ->
/// `x: [N, 3, 32, W], y = ..Conv..`.
///
/// # Errors
/// Those of [`inline_branches()`] and [`fix_shapes()`].
pub fn freeze_axes(graph: &mut Graph, shapes: &[GivenShape], engine: &dyn Engine) -> Result<Vec<FrozenAxis>> {
    let mut frozen = Vec::new();
    while let Some((fixed, axes)) = decided(graph, shapes)? {
        *graph = fixed;
        frozen.extend(axes);
        if inline_branches(graph, engine)? == 0 {
            break;
        }
    }
    Ok(frozen)
}

/// Returns the graph with the fewest axes fixed that select the branch of an If with layers inside, and those axes.
fn decided(graph: &Graph, shapes: &[GivenShape]) -> Result<Option<(Graph, Vec<FrozenAxis>)>> {
    if !graph.nodes.iter().any(holds_layers) {
        return Ok(None);
    }
    let open = open_axes(graph, shapes);
    let alone = open.iter().map(std::slice::from_ref);
    for axes in alone.chain([&open[..]]).filter(|axes| !axes.is_empty()) {
        let only = |(name, sizes): &GivenShape| -> GivenShape {
            let is_fixed = |axis: usize| axes.iter().any(|a| a.input == *name && a.axis == axis);
            (name.clone(), sizes.iter().enumerate().map(|(axis, size)| size.filter(|_| is_fixed(axis))).collect())
        };
        let mut fixed = graph.clone();
        fix_shapes(&mut fixed, &shapes.iter().map(only).collect::<Vec<_>>())?;
        let facts = shape::facts(&fixed)?;
        let is_decided = |node: &Node| node.input(0).is_some_and(|id| facts[id.index()].ints().is_some());
        if fixed.nodes.iter().any(|node| holds_layers(node) && is_decided(node)) {
            return Ok(Some((fixed, axes.to_vec())));
        }
    }
    Ok(None)
}

fn holds_layers(node: &Node) -> bool {
    node.is("If") && node.bodies().any(|(_, body)| body.count(&is_layer) > 0)
}

/// Returns the axes that are open and have a size in `shapes`.
fn open_axes(graph: &Graph, shapes: &[GivenShape]) -> Vec<FrozenAxis> {
    let of_input = |(name, sizes): &GivenShape| -> Vec<FrozenAxis> {
        let dims = graph.find(name).and_then(|id| graph.value(id).shape.clone()).unwrap_or_default();
        let pairs = dims.iter().zip(sizes).enumerate();
        let open = pairs.filter(|(_, (dim, _))| dim.known().is_none());
        open.filter_map(|(axis, (_, size))| Some(FrozenAxis { input: name.clone(), axis, size: (*size)? })).collect()
    };
    shapes.iter().flat_map(of_input).collect()
}
