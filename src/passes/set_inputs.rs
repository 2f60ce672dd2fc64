//! Replaces inputs by constants.

use crate::error::{Error, Result};
use crate::ir::{DType, Dim, Graph, Tensor, ValueId, element_count, nearest_names};

/// Returns the number of inputs that became constants, of the type and shape that they are declared with; open sizes
/// become 1, and a single number fills all elements.
///
/// Before -> after: `inputs x, sr: int64[]` with `sr=16000` -> `inputs x`, initializer `sr = 16000`.
///
/// # Errors
/// [`Error::Usage`] for a name that is not an input, values that do not fit its type, or a wrong number of
/// values.
pub fn set_inputs(graph: &mut Graph, values: &[(String, String)]) -> Result<usize> {
    for (name, text) in values {
        let id = input(graph, name)?;
        let tensor = tensor(graph, id, text)?;
        let value = graph.value_mut(id);
        value.dtype = Some(tensor.dtype());
        value.shape = Some(tensor.shape().iter().copied().map(Dim::Known).collect());
        value.constant = Some(tensor);
        graph.inputs.retain(|input| *input != id);
    }
    Ok(values.len())
}

fn input(graph: &Graph, name: &str) -> Result<ValueId> {
    let fed = graph.fed_inputs();
    fed.iter().copied().find(|&id| graph.name_of(id) == name).ok_or_else(|| {
        let nearest = nearest_names(name, fed.iter().map(|&id| graph.name_of(id)));
        usage(name, &format!("the model has no such input; the nearest are {nearest}"))
    })
}

fn tensor(graph: &Graph, id: ValueId, text: &str) -> Result<Tensor> {
    let (name, value) = (graph.name_of(id), graph.value(id));
    let dims = value.shape.as_deref().unwrap_or_default();
    let shape: Vec<usize> = dims.iter().map(|dim| dim.known().unwrap_or(1)).collect();
    let elements = element_count(&shape).unwrap_or(usize::MAX);
    let dtype = value.dtype.unwrap_or(DType::F32);
    let words: Vec<&str> = text.split(',').map(str::trim).collect();
    if words.len() != 1 && words.len() != elements {
        let message = format!("{} values for {elements} element(s) of {shape:?}", words.len());
        return Err(usage(name, &message));
    }
    let refused = |word: &str| usage(name, &format!("\"{word}\" is not of type {dtype}"));
    let word = |i: usize| if words.len() == 1 { words[0] } else { words[i] };
    if dtype.is_float() {
        let number = |i| word(i).parse::<f32>().map_err(|_| refused(word(i)));
        let values = (0..elements).map(number).collect::<Result<Vec<f32>>>()?;
        return Tensor::from_floats(dtype, &shape, &values);
    }
    let number = |i| match word(i) {
        "true" => Ok(1),
        "false" => Ok(0),
        word => word.parse::<i64>().map_err(|_| refused(word)),
    };
    let values = (0..elements).map(number).collect::<Result<Vec<i64>>>()?;
    if dtype == DType::I64 {
        return Ok(Tensor::from_i64(&shape, &values));
    }
    if dtype == DType::Bool {
        let bytes: Vec<u8> = values.iter().map(|&v| u8::from(v != 0)).collect();
        return Tensor::new(dtype, shape, bytes.into());
    }
    let (lo, hi) = dtype.int_range().unwrap_or((0, -1));
    let small = |&v: &i64| i32::try_from(v).ok().filter(|_| (lo..=hi).contains(&v)).ok_or_else(|| refused(text));
    let values = values.iter().map(small).collect::<Result<Vec<i32>>>()?;
    Tensor::from_ints(dtype, &shape, &values)
}

fn usage(name: &str, message: &str) -> Error {
    Error::Usage(format!("--set-input {name}: {message}"))
}
