//! Gives graph inputs the shapes that the user named.

use crate::error::{Error, Result};
use crate::ir::{Dim, Graph, ValueId};

/// Returns the number of graph inputs that got the shape given for their name.
///
/// A symbol that becomes a number does so in every input. Shapes declared for other values are forgotten, since they
/// may tell of the old sizes; [`crate::shape::infer`] finds the new ones. Before -> after: `inputs x: [N, 3, H, W]` with
/// `x: [4, 3, 32, 32]` -> `inputs x: [4, 3, 32, 32]`.
///
/// # Errors
/// [`Error::Usage`] for a name that is no input (naming those that are), another rank than the model declares, a size
/// of 0, and two sizes for one symbol.
pub fn fix_shapes(graph: &mut Graph, shapes: &[(String, Vec<usize>)]) -> Result<usize> {
    let sizes = symbol_sizes(graph, shapes)?;
    for (name, shape) in shapes {
        let id = input(graph, name)?;
        graph.value_mut(id).shape = Some(shape.iter().copied().map(Dim::Known).collect());
    }
    let fed = graph.fed_inputs();
    for &id in &fed {
        for dim in graph.value_mut(id).shape.iter_mut().flatten() {
            if let Dim::Symbol(name) = dim
                && let Some((_, size)) = sizes.iter().find(|(symbol, _)| symbol == name)
            {
                *dim = Dim::Known(*size);
            }
        }
    }
    for id in graph.value_ids().filter(|id| !shapes.is_empty() && !fed.contains(id)) {
        graph.value_mut(id).shape = None;
    }
    Ok(shapes.len())
}

/// The size that each declared symbol gets.
fn symbol_sizes(graph: &Graph, shapes: &[(String, Vec<usize>)]) -> Result<Vec<(String, usize)>> {
    let mut sizes: Vec<(String, usize)> = Vec::new();
    for (name, shape) in shapes {
        let value = graph.value(input(graph, name)?);
        if shape.contains(&0) {
            return Err(usage(name, &format!("{shape:?} has a size of 0")));
        }
        let Some(declared) = &value.shape else { continue };
        if declared.len() != shape.len() {
            let dims: Vec<String> = declared.iter().map(ToString::to_string).collect();
            let found = format!("{shape:?} has {} sizes, the model declares [{}]", shape.len(), dims.join(", "));
            return Err(usage(name, &found));
        }
        for (dim, &size) in declared.iter().zip(shape) {
            let Dim::Symbol(symbol) = dim else { continue };
            match sizes.iter().find(|(known, _)| known == symbol) {
                Some(&(_, other)) if other != size => {
                    let found = format!("{shape:?} makes {symbol} {size}, elsewhere it is {other}");
                    return Err(usage(name, &found));
                }
                Some(_) => {}
                None => sizes.push((symbol.clone(), size)),
            }
        }
    }
    Ok(sizes)
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
