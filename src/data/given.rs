//! Inputs that the user hands over for ranges and training. Labels beside them are not read.

use std::path::Path;

use super::{Array, Dataset, Preprocess, read_arrays};
use crate::error::{Error, Result};
use crate::ir::{DType, Graph, Tensor, ValueId};
use crate::stats::InputStatistics;

/// The part of all values that may lie far outside of the interval that the network is fed.
const OUTSIDE: f64 = 0.01;
/// How many times as large as that of what the network is fed the deviation of values may be, or as small.
const CONTRAST: f64 = 3.0;
/// Samples of which one is held out.
const FEWEST: usize = 2;

/// Returns the inputs of `graph` in the file at `path`, one tensor for each, samples first: arrays of the names of its
/// inputs (what `synth` writes) as they are, else images, made inputs by `preprocess`. Bytes under the name of the only
/// input are images where that is fed floats.
///
/// # Errors
/// When the file cannot be read, or its arrays have not the shape, the type, the number of samples or the scale that the
/// network is fed.
pub fn given_inputs(path: &Path, graph: &Graph, preprocess: &Preprocess, fed: &InputStatistics) -> Result<Vec<Tensor>> {
    let place = path.display().to_string();
    let ids = graph.fed_inputs();
    let arrays = read_arrays(path)?;
    let named = |&id: &ValueId| arrays.iter().find(|(name, _)| name == graph.name_of(id));
    let found: Vec<&Array> = ids.iter().filter_map(named).collect();
    let inputs = match ids.as_slice() {
        &[id] if found.first().is_none_or(|array| holds_pixels(graph, id, array)) => {
            vec![images(Dataset::unlabelled(path, &arrays)?, graph, id, preprocess)?]
        }
        _ if found.len() == ids.len() => {
            ids.iter().zip(found).map(|(&id, array)| fitting(&place, graph, id, array)).collect::<Result<Vec<_>>>()?
        }
        _ => {
            let names: Vec<&str> = ids.iter().map(|&id| graph.name_of(id)).collect();
            let present: Vec<&str> = arrays.iter().map(|(name, _)| name.as_str()).collect();
            let message =
                format!("expected an array for each input ({}), found {}", names.join(", "), present.join(", "));
            return Err(Error::malformed(place, message));
        }
    };
    let samples = |tensor: &Tensor| tensor.shape().first().copied().unwrap_or(0);
    let counts: Vec<usize> = inputs.iter().map(samples).collect();
    if counts.iter().any(|&count| count != counts[0] || count < FEWEST) {
        let message = format!("expected as many samples of every input, at least {FEWEST}, found {counts:?}");
        return Err(Error::malformed(place, message));
    }
    for tensor in inputs.iter().filter(|tensor| tensor.dtype().is_float() && tensor.shape().len() == 4) {
        check_scale(&place, &tensor.to_f32()?, fed)?;
    }
    Ok(inputs)
}

fn images(data: Dataset, graph: &Graph, id: ValueId, preprocess: &Preprocess) -> Result<Tensor> {
    let value = graph.value(id);
    let shape =
        value.shape.clone().ok_or_else(|| Error::unsupported("model", "the shape of its input is not declared"))?;
    let dtype = value.dtype.unwrap_or(DType::F32);
    data.batch(0..data.len(), &preprocess.to_type(dtype), &shape)?.to_type(dtype)
}

/// Returns whether an array of the input's name holds bytes where the network is fed floats.
fn holds_pixels(graph: &Graph, id: ValueId, (_, tensor): &Array) -> bool {
    tensor.dtype() == DType::U8 && graph.value(id).dtype.is_some_and(DType::is_float)
}

/// Returns an array that is an input as it is.
fn fitting(place: &str, graph: &Graph, id: ValueId, (name, tensor): &Array) -> Result<Tensor> {
    let value = graph.value(id);
    let dims = value.shape.as_deref().unwrap_or_default();
    let pairs = || dims.iter().zip(tensor.shape()).skip(1);
    let same_rank = value.shape.is_none() || dims.len() == tensor.shape().len();
    if same_rank && pairs().all(|(dim, &n)| dim.known().is_none_or(|d| d == n)) && value.dtype == Some(tensor.dtype()) {
        return Ok(tensor.clone());
    }
    let dims: Vec<String> = dims.iter().map(ToString::to_string).collect();
    let message = format!(
        "expected {} [{}] in \"{name}\", as the model's input is, found {} {:?}",
        value.dtype.unwrap_or(DType::F32),
        dims.join(", "),
        tensor.dtype(),
        tensor.shape()
    );
    Err(Error::shape(place, message))
}

/// Refuses images of another scale than the network is known to be fed; where that is a guess, images outrank it.
#[allow(clippy::cast_precision_loss)]
fn check_scale(place: &str, values: &[f32], fed: &InputStatistics) -> Result<()> {
    if let Some(value) = values.iter().find(|value| !value.is_finite()) {
        return Err(Error::malformed(place, format!("holds the value {value}; expected finite inputs")));
    }
    let (lo, hi) = (fed.lo, fed.hi);
    let margin = 0.1 * (hi - lo);
    let beyond = values.iter().filter(|&&v| !(lo - margin..=hi + margin).contains(&f64::from(v))).count();
    let deviation = deviation(values);
    let is_alike = (1.0 / CONTRAST..=CONTRAST).contains(&(deviation / fed.contrast()));
    if fed.source.is_guess() || values.is_empty() || (beyond as f64 <= OUTSIDE * values.len() as f64 && is_alike) {
        return Ok(());
    }
    let [least, most] = [f32::min, f32::max].map(|end| values.iter().copied().reduce(end).unwrap_or(0.0));
    let message = format!(
        "holds inputs from {least:.3} to {most:.3} with a deviation of {deviation:.3}, the model is fed {lo:.3} to {hi:.3}; give \
         --mean, --std and --scale that pixels become inputs by, or --input-range"
    );
    Err(Error::Usage(format!("{place}: {message}")))
}

/// Returns the standard deviation of all values.
#[allow(clippy::cast_precision_loss)]
fn deviation(values: &[f32]) -> f64 {
    let mean_of = |of: &dyn Fn(f64) -> f64| values.iter().map(|&v| of(f64::from(v))).sum::<f64>() / values.len() as f64;
    let mean = mean_of(&|v| v);
    mean_of(&|v| (v - mean) * (v - mean)).sqrt()
}
