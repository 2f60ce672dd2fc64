//! Gives graph inputs the shapes that the user named.

use std::collections::HashMap;

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
    let (mut fixed, mut sizes) = (Vec::with_capacity(shapes.len()), HashMap::new());
    for (name, shape) in shapes {
        let id = input(graph, name)?;
        if shape.contains(&0) {
            return Err(usage(name, &format!("{shape:?} has a size of 0")));
        }
        let declared = graph.value(id).shape.clone().unwrap_or_default();
        if !declared.is_empty() && declared.len() != shape.len() {
            let dims: Vec<String> = declared.iter().map(ToString::to_string).collect();
            let found = format!("{shape:?} has {} sizes, the model declares [{}]", shape.len(), dims.join(", "));
            return Err(usage(name, &found));
        }
        for (dim, &size) in declared.iter().zip(shape) {
            if let Dim::Symbol(symbol) = dim
                && let Some(other) = sizes.insert(symbol.clone(), size).filter(|&other| other != size)
            {
                return Err(usage(
                    name,
                    &format!("{shape:?} gives {symbol} the size {size}, another shape gives it {other}"),
                ));
            }
        }
        fixed.push((id, shape));
    }
    for (id, shape) in fixed {
        graph.value_mut(id).shape = Some(shape.iter().copied().map(Dim::Known).collect());
    }
    substitute(graph, &sizes);
    let fed = graph.fed_inputs();
    for id in graph.value_ids().filter(|id| !shapes.is_empty() && !fed.contains(id)) {
        graph.value_mut(id).shape = None;
    }
    Ok(shapes.len())
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

fn substitute(graph: &mut Graph, sizes: &HashMap<String, usize>) {
    for id in graph.fed_inputs() {
        for dim in graph.value_mut(id).shape.iter_mut().flatten() {
            if let Dim::Symbol(symbol) = dim
                && let Some(&size) = sizes.get(symbol)
            {
                *dim = Dim::Known(size);
            }
        }
    }
}
