//! Opens the batch axis of a network that was exported with a fixed batch.

use crate::error::Result;
use crate::ir::{Dim, Graph, Tensor, ValueId};
use crate::shape;

/// The name of the open batch axis.
const BATCH: &str = "batch";

/// Returns the number of inputs whose first axis was opened; 0, with an unchanged graph, if the batch is open already
/// or is used in the graph in an unsupported way.
///
/// Before -> after: `x: [1, 3, 8, 8]`, `Reshape(x, [1, 192])` -> `x: [batch, 3, 8, 8]`, `Reshape(x, [0, 192])`.
pub fn free_batch(graph: &mut Graph) -> usize {
    let Some(batch) = graph.fixed_batch() else { return 0 };
    let fed = graph.fed_inputs();
    if !fed.iter().all(|&id| first_dim(graph, id) == Some(batch)) {
        return 0;
    }
    let mut free = graph.clone();
    for at in 0..free.nodes.len() {
        copy_batch(&mut free, at, batch);
    }
    if set_batch(&mut free, &Dim::Symbol(BATCH.to_owned())).is_err() {
        return 0;
    }
    let is_free = |id: &ValueId| {
        let first = free.value(*id).shape.as_ref().and_then(|shape| shape.first());
        first_dim(graph, *id) == Some(batch) && first == Some(&Dim::Symbol(BATCH.to_owned()))
    };
    if !free.outputs.iter().all(is_free) {
        return 0;
    }
    *graph = free;
    fed.len()
}

/// Fixes open first axes of inputs at 1 if other inputs have a fixed one, such as the state of a recurrent network, and
/// returns their number: each run then takes one sample.
///
/// Before -> after: `x: [N, 576], state: [2, N, 128]` -> `x: [1, 576], state: [2, 1, 128]`.
pub fn settle_batch(graph: &mut Graph) -> usize {
    let fed = graph.fed_inputs();
    let firsts = fed.iter().filter_map(|&id| graph.value(id).shape.as_ref()?.first().cloned());
    let (known, open): (Vec<Dim>, Vec<Dim>) = firsts.partition(|dim| dim.known().is_some());
    if known.is_empty() || open.is_empty() {
        return 0;
    }
    let mut settled = 0;
    for id in fed {
        for (axis, dim) in graph.value_mut(id).shape.iter_mut().flatten().enumerate() {
            let is_open = dim.known().is_none() && axis == 0 || matches!(dim, Dim::Symbol(_)) && open.contains(dim);
            if is_open {
                *dim = Dim::Known(1);
                settled += 1;
            }
        }
    }
    settled
}

/// Fixes the batch of a graph.
///
/// # Errors
/// When shapes cannot be inferred.
pub fn fix_batch(graph: &mut Graph, batch: usize) -> Result<()> {
    set_batch(graph, &Dim::Known(batch))
}

/// Sets the first axis of every input to `batch`, and infers all other shapes anew.
fn set_batch(graph: &mut Graph, batch: &Dim) -> Result<()> {
    let fed = graph.fed_inputs();
    for id in graph.value_ids() {
        let value = graph.value_mut(id);
        match value.shape.as_mut().and_then(|shape| shape.first_mut()).filter(|_| fed.contains(&id)) {
            Some(first) => *first = batch.clone(),
            None => value.shape = None,
        }
    }
    shape::infer(graph)
}

/// Makes the Reshape at `at` copy the batch from its input.
fn copy_batch(graph: &mut Graph, at: usize, batch: usize) {
    let node = &graph.nodes[at];
    let (Some(x), Some(shape)) = (node.input(0), node.input(1)) else { return };
    if !node.is("Reshape") || node.attrs.int("allowzero", 0) == 1 || first_dim(graph, x) != Some(batch) {
        return;
    }
    if graph.constant_of(x).is_some() {
        return;
    }
    let Some(Ok(mut dims)) = graph.constant_of(shape).map(Tensor::to_i64) else { return };
    if dims.first().and_then(|&first| usize::try_from(first).ok()) != Some(batch) {
        return;
    }
    dims[0] = 0;
    let name = format!("{}_free", graph.name_of(shape));
    let constant = graph.add_constant(&name, Tensor::from_i64(&[dims.len()], &dims));
    graph.nodes[at].inputs[1] = Some(constant);
}

fn first_dim(graph: &Graph, id: ValueId) -> Option<usize> {
    graph.value(id).shape.as_ref()?.first()?.known()
}
