//! What a model declares of its inputs and outputs, kept while they are fixed for planning, and put back in what is
//! written.

use crate::error::Result;
use crate::ir::{Dim, Graph, Shape, ValueId};
use crate::shape;

/// The shapes of inputs and outputs by name, as a file declares them; none where the rank is open.
#[derive(Clone, Debug, PartialEq)]
pub struct DeclaredShapes(Vec<(String, Option<Shape>)>);

/// Returns what `graph` declares of its inputs and outputs.
pub fn declared_shapes(graph: &Graph) -> DeclaredShapes {
    let edges = graph.inputs.iter().chain(&graph.outputs);
    let declared = |&id: &ValueId| (graph.name_of(id).to_owned(), graph.value(id).shape.clone());
    DeclaredShapes(edges.map(declared).collect())
}

impl DeclaredShapes {
    /// Returns the same with a number for each size that is one in `graph`.
    pub fn with_numbers_of(mut self, graph: &Graph) -> Self {
        for (name, shape) in &mut self.0 {
            let now = graph.find(name).and_then(|id| graph.value(id).shape.as_ref());
            for (dim, now) in shape.iter_mut().flatten().zip(now.into_iter().flatten()) {
                if now.known().is_some() {
                    *dim = now.clone();
                }
            }
        }
        self
    }
}

/// Opens the axes of inputs and outputs that `declared` leaves open, and infers all other shapes anew.
///
/// A number of an input that is another now stays; outputs are then as inferred, and so are those of undeclared rank. Before -> after:
/// `x: [1, 3, 48, 192]`, declared `[N, 3, ?, ?]` -> `x: [N, 3, ?, ?]`.
///
/// # Errors
/// When shapes cannot be inferred.
pub fn restore_shapes(graph: &mut Graph, DeclaredShapes(declared): &DeclaredShapes) -> Result<()> {
    let fed = graph.fed_inputs();
    let mut replaced = false;
    for id in graph.value_ids() {
        let now = graph.value(id).shape.clone();
        let known = declared.iter().find(|(name, _)| name == graph.name_of(id)).map(|(_, shape)| shape);
        let shape = match known {
            Some(shape) if fed.contains(&id) => {
                let shape = with_numbers_of(shape.clone(), now.as_ref());
                replaced |= known != Some(&shape);
                shape
            }
            _ => None,
        };
        graph.value_mut(id).shape = shape;
    }
    shape::infer(graph)?;
    for id in graph.outputs.clone().into_iter().filter(|_| !replaced) {
        if let Some((_, Some(shape))) = declared.iter().find(|(name, _)| name == graph.name_of(id)) {
            graph.value_mut(id).shape = Some(shape.clone());
        }
    }
    Ok(())
}

/// Returns `declared` with a number of `now` wherever both have one.
fn with_numbers_of(declared: Option<Shape>, now: Option<&Shape>) -> Option<Shape> {
    let (mut declared, now) = (declared?, now.map(Vec::as_slice).unwrap_or_default());
    for (dim, now) in declared.iter_mut().zip(now) {
        if let (Dim::Known(_), Dim::Known(_)) = (&dim, now) {
            *dim = now.clone();
        }
    }
    Some(declared)
}
