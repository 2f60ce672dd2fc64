//! Synthetic inputs by the kind of each input: images, token ids, sizes, masks, numbers.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::kind::{InputKind, image_beside, image_channels, input_kind};
use super::natural::{InputMoments, natural_images};
use super::smooth::{normal, uniform};
use crate::error::{Error, Result};
use crate::ir::{DType, Dim, Graph, Tensor, ValueId, element_count};

/// The most elements of one input over all samples.
const LARGEST: usize = 1 << 30;
/// Moments of pixels that are bytes.
const BYTES: InputMoments = InputMoments { mean: &[115.0], std: &[64.0] };
/// One in this many recurrent states is the initial state: zeros.
const STARTS: usize = 4;
/// Standard deviation of the other states, clamped to -1 and 1.
const STATES: f32 = 0.5;

/// Returns `samples` samples for each fed input of the graph, batch axis first.
///
/// Images: [`natural_images`] (bytes from 0 to 255). Token ids: any rows of their table. Sizes: height and width of the
/// images. Settings: the value they are compared with. Masks: ones, from some place on zeros. Recurrent states: zeros,
/// or noise between -1 and 1. Features: normal noise, with `moments` where the model takes no images.
///
/// # Errors
/// When an input's shape is not known beyond its first axis, or its type is none of these.
pub fn synthetic_inputs(
    graph: &Graph,
    samples: usize,
    moments: InputMoments,
    seed: u64,
    threads: usize,
) -> Result<Vec<Tensor>> {
    let mut inputs = Vec::new();
    for (id, index) in graph.fed_inputs().into_iter().zip(0u64..) {
        let shape = input_shape(graph, id, samples)?;
        element_count(&shape).filter(|&count| count <= LARGEST).ok_or_else(|| {
            Error::Resources(format!(
                "{}: {shape:?} does not fit in memory; give fewer --samples or a smaller --input-shape",
                place(graph, id)
            ))
        })?;
        let seed = seed.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let dtype = graph.value(id).dtype.unwrap_or(DType::F32);
        let values = match input_kind(graph, id) {
            InputKind::Image { channels_last } => {
                let moments = if dtype == DType::U8 { BYTES } else { moments };
                check_channels(graph, id, &shape, channels_last, moments)?;
                images(&shape, channels_last, moments, seed, threads)
            }
            InputKind::Mask => mask(dtype, &shape, seed),
            InputKind::State => states(&shape, seed),
            kind => {
                let image = image_beside(graph).map(|image| height_and_width(graph, image));
                numbers(kind, image, &shape, moments, seed)
            }
        };
        inputs.push(tensor(dtype, &shape, &values).map_err(|_| {
            let message = format!("no synthetic inputs of type {dtype}; give real ones");
            Error::unsupported(place(graph, id), message)
        })?);
    }
    Ok(inputs)
}

fn height_and_width(graph: &Graph, image: ValueId) -> [f32; 2] {
    let image = graph.value(image).shape.as_deref().unwrap_or_default();
    let first = if image_channels(image) == Some(3) { 1 } else { 2 };
    [first, first + 1].map(|axis| {
        let size = image.get(axis).and_then(Dim::known).and_then(|n| u16::try_from(n).ok());
        size.map_or(1.0, f32::from)
    })
}

/// Returns samples, height, width and channels of images.
fn sizes(shape: &[usize], channels_last: bool) -> [usize; 4] {
    match (shape, channels_last) {
        (&[n, h, w, c], true) | (&[n, c, h, w], false) => [n, h, w, c],
        _ => panic!("images have rank 4"),
    }
}

fn check_channels(
    graph: &Graph,
    id: ValueId,
    shape: &[usize],
    channels_last: bool,
    moments: InputMoments,
) -> Result<()> {
    let [.., c] = sizes(shape, channels_last);
    for (what, values) in [("mean", moments.mean), ("std", moments.std)] {
        if values.len() > 1 && values.len() != c {
            let message = format!("{what} has {} values, the input {shape:?}", values.len());
            return Err(Error::shape(place(graph, id), message));
        }
    }
    Ok(())
}

fn images(shape: &[usize], channels_last: bool, moments: InputMoments, seed: u64, threads: usize) -> Vec<f32> {
    let [n, h, w, c] = sizes(shape, channels_last);
    let images = natural_images(&[n, c, h, w], moments, seed, threads);
    if !channels_last {
        return images;
    }
    let (plane, image) = (h * w, c * h * w);
    let of = |i: usize| (i / image) * image + (i % c) * plane + i % image / c;
    (0..images.len()).map(|i| images[of(i)]).collect()
}

/// Returns numbers of a kind; `image` is the height and width of the model's images, if it takes any.
fn numbers(kind: InputKind, image: Option<[f32; 2]>, shape: &[usize], moments: InputMoments, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let columns = shape.last().copied().unwrap_or(1).max(1);
    let of = |values: &[f32], column: usize, default: f32| match values {
        [one] => *one,
        many if many.len() == columns => many[column],
        _ => default,
    };
    let value = |i: usize| match (kind, image) {
        (InputKind::TokenIds { vocabulary }, _) => {
            (f64::from(uniform(&mut rng)) * f64::from(vocabulary)).floor() as f32
        }
        (InputKind::Size, Some(size)) => size[i % 2],
        (InputKind::Factor, _) => 1.0,
        (InputKind::Setting { value }, _) => f32::from(value),
        (InputKind::Features, None) => {
            of(moments.mean, i % columns, 0.0) + of(moments.std, i % columns, 1.0) * normal(&mut rng)
        }
        _ => normal(&mut rng),
    };
    (0..shape.iter().product()).map(value).collect()
}

/// Returns rows of ones followed by zeros. Rows of booleans have at least one of each; single values are random.
fn mask(dtype: DType, shape: &[usize], seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let row = shape.last().copied().filter(|_| shape.len() > 1).unwrap_or(1).max(1);
    let most = if dtype == DType::Bool && row > 1 { row - 1 } else { row };
    let mut values = Vec::with_capacity(shape.iter().product());
    for _ in 0..shape.iter().product::<usize>() / row {
        let ones = match row {
            1 => (rng.next_u32() & 1) as usize,
            _ => 1 + (uniform(&mut rng) * most as f32) as usize,
        };
        values.extend((0..row).map(|i| f32::from(u8::from(i < ones.min(most)))));
    }
    values
}

/// Returns recurrent states, some of them initial states.
fn states(shape: &[usize], seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let row: usize = shape.iter().skip(1).product::<usize>().max(1);
    let value = |i: usize| match (i / row) % STARTS {
        0 => 0.0,
        _ => (STATES * normal(&mut rng)).clamp(-1.0, 1.0),
    };
    (0..shape.iter().product()).map(value).collect()
}

fn tensor(dtype: DType, shape: &[usize], values: &[f32]) -> Result<Tensor> {
    let integers = || values.iter().map(|v| v.round_ties_even() as i64);
    match dtype {
        dtype if dtype.is_float() => Tensor::from_floats(dtype, shape, values),
        DType::I64 => Ok(Tensor::from_i64(shape, &integers().collect::<Vec<i64>>())),
        DType::Bool => {
            let bytes: Vec<u8> = values.iter().map(|&v| u8::from(v != 0.0)).collect();
            Tensor::new(DType::Bool, shape.to_vec(), bytes.into())
        }
        dtype => {
            let (lo, hi) = dtype.int_range().unwrap_or((0, 0));
            let values: Vec<i32> = integers().map(|v| v.clamp(lo, hi) as i32).collect();
            Tensor::from_ints(dtype, shape, &values)
        }
    }
}

fn place(graph: &Graph, id: ValueId) -> String {
    format!("input \"{}\"", graph.name_of(id))
}

/// Returns the shape of an input on `samples` samples: the first axis is the batch where it is a symbol; a known first
/// axis is repeated once for each run that the samples take (see [`Graph::fixed_batch`]).
///
/// # Errors
/// When another axis is not known.
pub fn input_shape(graph: &Graph, id: ValueId, samples: usize) -> Result<Vec<usize>> {
    let unknown = |found: &str| {
        Error::unsupported(
            place(graph, id),
            format!("shape is {found}; give sizes (--input-shape name:1x3x224x224) or real inputs"),
        )
    };
    let shape = graph.value(id).shape.as_ref().ok_or_else(|| unknown("not declared"))?;
    let runs = samples.div_ceil(graph.fixed_batch().unwrap_or(1).max(1));
    let mut sizes = Vec::with_capacity(shape.len());
    for (axis, dim) in shape.iter().enumerate() {
        sizes.push(match (axis, dim) {
            (_, Dim::Known(0)) => return Err(unknown(&format!("0 at axis {axis}"))),
            (0, Dim::Known(n)) => runs.saturating_mul(*n),
            (0, _) => samples,
            (_, Dim::Known(n)) => *n,
            (_, dim) => return Err(unknown(&format!("{dim} at axis {axis}"))),
        });
    }
    Ok(sizes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A graph whose inputs are `name, type, shape`.
    fn graph(inputs: &[(&str, DType, &[usize])]) -> Graph {
        let mut graph = Graph::default();
        for (name, dtype, shape) in inputs {
            let id = graph.add_value(name);
            graph.value_mut(id).dtype = Some(*dtype);
            graph.value_mut(id).shape = Some(shape.iter().map(|&n| Dim::Known(n)).collect());
            graph.inputs.push(id);
        }
        graph
    }

    #[test]
    fn images_with_channels_last_are_those_with_channels_first_transposed() {
        let first = graph(&[("x", DType::F32, &[2, 3, 5, 6])]);
        let last = graph(&[("x", DType::F32, &[2, 5, 6, 3])]);
        let make =
            |graph: &Graph| synthetic_inputs(graph, 2, InputMoments::STANDARD, 3, 1).unwrap()[0].to_array().unwrap();
        assert_eq!(make(&first).permuted_axes(vec![0, 2, 3, 1]), make(&last));
    }
}
