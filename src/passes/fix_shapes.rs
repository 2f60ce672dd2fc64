//! Sets the shapes of graph inputs to those that the user gave.

use crate::error::{Error, Result};
use crate::ir::{Dim, Graph, ValueId};

/// An input by name, and its sizes; `None` keeps the size that the model declares.
pub type GivenShape = (String, Vec<Option<usize>>);

/// Returns the number of graph inputs that got the shape given for their name.
///
/// A symbol gets its number in every input, unless the inputs disagree: some exporters use one name for different
/// sizes. Shapes declared for other values are removed, since they may hold the old sizes; [`crate::shape::infer`]
/// infers them anew. Before -> after: `inputs x: [N, 3, H, W]` with `x: [4, 3, ?, 32]` -> `inputs x: [4, 3, H, 32]`.
///
/// # Errors
/// [`Error::Usage`] for a name that is not an input (naming those that are), another rank than the model declares, and
/// a size of 0.
pub fn fix_shapes(graph: &mut Graph, shapes: &[GivenShape]) -> Result<usize> {
    let sizes = symbol_sizes(graph, shapes)?;
    for (name, given) in shapes {
        let id = input(graph, name)?;
        let declared = graph.value(id).shape.clone().unwrap_or_else(|| vec![Dim::Unknown; given.len()]);
        let dims = declared.into_iter().zip(given).map(|(dim, size)| size.map_or(dim, Dim::Known));
        graph.value_mut(id).shape = Some(dims.collect());
    }
    let fed = graph.fed_inputs();
    for &id in &fed {
        let is_given = shapes.iter().any(|(name, _)| name == graph.name_of(id));
        for dim in graph.value_mut(id).shape.iter_mut().flatten() {
            let Dim::Symbol(name) = dim else { continue };
            match sizes.iter().find(|(symbol, _)| symbol == name) {
                Some((_, Some(size))) if !is_given => *dim = Dim::Known(*size),
                Some((_, None)) => *dim = Dim::Unknown,
                _ => {}
            }
        }
    }
    for id in graph.value_ids().filter(|id| !shapes.is_empty() && !fed.contains(id)) {
        graph.value_mut(id).shape = None;
    }
    Ok(shapes.len())
}

/// Gives inputs without a declared rank the rank of their given shape, all sizes open, and returns their number.
///
/// # Errors
/// [`Error::Usage`] for a name that is not an input.
pub fn declare_ranks(graph: &mut Graph, shapes: &[GivenShape]) -> Result<usize> {
    let mut declared = 0;
    for (name, given) in shapes {
        let id = input(graph, name)?;
        if graph.value(id).shape.is_none() {
            graph.value_mut(id).shape = Some(vec![Dim::Unknown; given.len()]);
            declared += 1;
        }
    }
    Ok(declared)
}

/// Returns the size of each declared symbol; `None` where inputs disagree.
fn symbol_sizes(graph: &Graph, shapes: &[GivenShape]) -> Result<Vec<(String, Option<usize>)>> {
    let mut sizes: Vec<(String, Option<usize>)> = Vec::new();
    for (name, given) in shapes {
        let value = graph.value(input(graph, name)?);
        if given.contains(&Some(0)) {
            return Err(usage(name, &format!("[{}] has a size of 0", shown(given))));
        }
        let Some(declared) = &value.shape else { continue };
        if declared.len() != given.len() {
            let dims: Vec<String> = declared.iter().map(ToString::to_string).collect();
            let message =
                format!("[{}] has {} sizes, the model declares [{}]", shown(given), given.len(), dims.join(", "));
            return Err(usage(name, &message));
        }
        for (dim, size) in declared.iter().zip(given) {
            let (Dim::Symbol(symbol), Some(size)) = (dim, size) else { continue };
            match sizes.iter_mut().find(|(known, _)| known == symbol) {
                Some((_, known)) => *known = known.filter(|known| known == size),
                None => sizes.push((symbol.clone(), Some(*size))),
            }
        }
    }
    Ok(sizes)
}

fn shown(given: &[Option<usize>]) -> String {
    let sizes: Vec<String> = given.iter().map(|size| size.map_or("?".to_owned(), |n| n.to_string())).collect();
    sizes.join(", ")
}

fn usage(name: &str, message: &str) -> Error {
    Error::Usage(format!("input shape of \"{name}\": {message}"))
}

fn input(graph: &Graph, name: &str) -> Result<ValueId> {
    let inputs = graph.fed_inputs();
    inputs.iter().copied().find(|&id| graph.name_of(id) == name).ok_or_else(|| {
        let names: Vec<String> = inputs.iter().map(|&id| format!("\"{}\"", graph.name_of(id))).collect();
        usage(name, &format!("the model has no such input; it has {}", names.join(", ")))
    })
}
