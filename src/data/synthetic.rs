//! Inputs made up for a model by what it does with them: images, token ids, sizes, masks, plain numbers.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::natural::natural_images;
use super::smooth::{normal, uniform};
use crate::error::{Error, Result};
use crate::ir::{DType, Dim, Graph, Tensor, ValueId, element_count, front_axis};

/// Elements that one input may have at most, all samples together.
const LARGEST: usize = 1 << 30;
/// Channels that an image has at most where channels come last.
pub const MOST_COLOURS: usize = 4;
/// Mean and deviation of pixels that are bytes.
const BYTES: (f32, f32) = (115.0, 64.0);

/// What an input is taken for.
#[derive(Clone, Debug, PartialEq)]
enum Kind {
    /// Images, channels first or last.
    Image {
        /// Whether channels come last.
        channels_last: bool,
    },
    /// Indices below a number, that of the rows of a table.
    Index(u32),
    /// Height and width of the images beside it.
    Size([f32; 2]),
    /// Ones: factors by which images were resized.
    Factor,
    /// Zeros and ones.
    Flags,
    /// Normal noise; with the mean and deviation of images where there are no images beside it.
    Numbers {
        /// Whether the statistics that were given are its own.
        described: bool,
    },
}

/// Returns whether an input of this shape is taken for images, and the axis of their channels.
pub fn image_channels(dims: &[Dim]) -> Option<usize> {
    let [_, first, _, last] = dims else { return None };
    let colours = |dim: &Dim| dim.known().is_some_and(|n| n <= MOST_COLOURS);
    Some(if colours(last) && !colours(first) { 3 } else { 1 })
}

/// Returns `samples` inputs for each input that the graph must be fed, batch axis first.
///
/// Rank 4: [`natural_images`] (bytes from 0 to 255). Integers that pick rows of a constant table: any of its rows. Pairs
/// called a size or shape: height and width of the images. Other integers: zeros and ones. Other floats: normal noise,
/// with `mean` and `std` where the model takes no images.
///
/// # Errors
/// When an input's shape is not known beyond its first axis, or its type is none of these.
pub fn synthetic_inputs(
    graph: &Graph,
    samples: usize,
    (mean, std): (&[f32], &[f32]),
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
        let kind = kind_of(graph, id);
        let values = match kind {
            Kind::Image { channels_last } => {
                let (mean, std) = if dtype == DType::U8 { (&[BYTES.0][..], &[BYTES.1][..]) } else { (mean, std) };
                check_channels(graph, id, (&shape, channels_last), (mean, std))?;
                images((&shape, channels_last), (mean, std), seed, threads)
            }
            _ => numbers(&kind, &shape, (mean, std), seed),
        };
        inputs.push(tensor(dtype, &shape, &values).map_err(|_| {
            let message = format!("no synthetic inputs of type {dtype}; give real ones");
            Error::unsupported(place(graph, id), message)
        })?);
    }
    Ok(inputs)
}

fn kind_of(graph: &Graph, id: ValueId) -> Kind {
    let dtype = graph.value(id).dtype.unwrap_or(DType::F32);
    let shape = |id: ValueId| graph.value(id).shape.as_deref().unwrap_or_default();
    let is_image = |id: ValueId| {
        let dtype = graph.value(id).dtype.unwrap_or(DType::F32);
        (dtype.is_float() || dtype == DType::U8) && image_channels(shape(id)).is_some()
    };
    if is_image(id) {
        return Kind::Image { channels_last: image_channels(shape(id)) == Some(3) };
    }
    let image = graph.fed_inputs().into_iter().find(|&other| is_image(other));
    let name = graph.name_of(id).to_lowercase();
    let named = |words: &[&str]| words.iter().any(|word| name.contains(word));
    let is_pair = shape(id).last().and_then(Dim::known) == Some(2);
    match (image, rows_picked(graph, id)) {
        (_, Some(rows)) if !dtype.is_float() => Kind::Index(rows),
        (Some(_), _) if is_pair && named(&["scale_factor"]) => Kind::Factor,
        (Some(image), _) if is_pair && named(&["size", "shape"]) => Kind::Size(height_and_width(shape(image))),
        _ if !dtype.is_float() => Kind::Flags,
        _ => Kind::Numbers { described: image.is_none() },
    }
}

fn height_and_width(image: &[Dim]) -> [f32; 2] {
    let first = if image_channels(image) == Some(3) { 1 } else { 2 };
    [first, first + 1].map(|axis| {
        let size = image.get(axis).and_then(Dim::known).and_then(|n| u16::try_from(n).ok());
        size.map_or(1.0, f32::from)
    })
}

/// The rows of the smallest constant table that `id` picks from.
fn rows_picked(graph: &Graph, id: ValueId) -> Option<u32> {
    const HANDING_ON: &[&str] =
        &["Cast", "Flatten", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"];
    let (mut waiting, mut smallest) = (vec![id], None);
    while let Some(id) = waiting.pop() {
        for node in graph.nodes.iter().filter(|n| n.inputs.contains(&Some(id))) {
            if HANDING_ON.iter().any(|op| node.is(op)) {
                waiting.extend(node.output(0));
            }
            let table = node.input(0).filter(|_| node.is("Gather") && node.input(1) == Some(id));
            let Some(shape) = table.and_then(|table| graph.constant_of(table)).map(Tensor::shape) else { continue };
            let axis = front_axis(node.attrs.int("axis", 0), shape.len());
            let rows = axis.and_then(|axis| shape.get(axis)).and_then(|&n| u32::try_from(n).ok()).filter(|&n| n > 0);
            smallest = rows.into_iter().chain(smallest).min();
        }
    }
    smallest
}

/// Returns samples, height, width and channels of images.
fn sizes((shape, channels_last): (&[usize], bool)) -> [usize; 4] {
    match (shape, channels_last) {
        (&[n, h, w, c], true) | (&[n, c, h, w], false) => [n, h, w, c],
        _ => panic!("images have rank 4"),
    }
}

fn check_channels(
    graph: &Graph,
    id: ValueId,
    (shape, channels_last): (&[usize], bool),
    (mean, std): (&[f32], &[f32]),
) -> Result<()> {
    let [.., c] = sizes((shape, channels_last));
    for (what, values) in [("mean", mean), ("std", std)] {
        if values.len() > 1 && values.len() != c {
            let message = format!("{what} has {} values, the input {shape:?}", values.len());
            return Err(Error::shape(place(graph, id), message));
        }
    }
    Ok(())
}

fn images(layout: (&[usize], bool), statistics: (&[f32], &[f32]), seed: u64, threads: usize) -> Vec<f32> {
    let [n, h, w, c] = sizes(layout);
    let images = natural_images(&[n, c, h, w], statistics, seed, threads);
    if !layout.1 {
        return images;
    }
    let (plane, image) = (h * w, c * h * w);
    let of = |i: usize| (i / image) * image + (i % c) * plane + i % image / c;
    (0..images.len()).map(|i| images[of(i)]).collect()
}

#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
fn numbers(kind: &Kind, shape: &[usize], (mean, std): (&[f32], &[f32]), seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let columns = shape.last().copied().unwrap_or(1).max(1);
    let of = |values: &[f32], column: usize, default: f32| match values {
        [one] => *one,
        many if many.len() == columns => many[column],
        _ => default,
    };
    let value = |i: usize| match kind {
        Kind::Index(rows) => (f64::from(uniform(&mut rng)) * f64::from(*rows)).floor() as f32,
        Kind::Size(pair) => pair[i % 2],
        Kind::Factor => 1.0,
        Kind::Flags => f32::from(u8::from(rng.next_u32() & 1 == 1)),
        Kind::Numbers { described: true } => of(mean, i % columns, 0.0) + of(std, i % columns, 1.0) * normal(&mut rng),
        _ => normal(&mut rng),
    };
    (0..shape.iter().product()).map(value).collect()
}

#[allow(clippy::cast_possible_truncation)]
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
/// axis is repeated up to `samples`.
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
    let mut sizes = Vec::with_capacity(shape.len());
    for (axis, dim) in shape.iter().enumerate() {
        sizes.push(match (axis, dim) {
            (_, Dim::Known(0)) => return Err(unknown(&format!("0 at axis {axis}"))),
            (0, Dim::Known(n)) => samples.checked_next_multiple_of((*n).max(1)).unwrap_or(usize::MAX),
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
    use crate::ir::{Attr, Attrs, Node};

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
    fn inputs_are_what_their_shape_type_name_and_use_tell() {
        let image = ("image", DType::F32, &[1usize, 3, 20, 30][..]);
        let mut words = graph(&[("ids", DType::I64, &[1, 8]), ("mask", DType::I64, &[1, 8])]);
        let ids = words.inputs[0];
        let table = words.add_constant("table", Tensor::from_f32(&[7, 50], &[0.0; 350]));
        let [cast, rows] = ["cast", "rows"].map(|name| words.add_value(name));
        words.nodes.push(Node::new("Cast", [ids], [cast], [("to", Attr::Int(6))]));
        words.nodes.push(Node::new("Gather", [table, cast], [rows], Attrs::default()));
        let cases = [
            ("image", graph(&[image]), 0, Kind::Image { channels_last: false }),
            ("bytes", graph(&[("x", DType::U8, &[1, 20, 30, 3])]), 0, Kind::Image { channels_last: true }),
            ("token ids", words.clone(), 0, Kind::Index(7)),
            ("mask", words, 1, Kind::Flags),
            ("size", graph(&[("orig_size", DType::I64, &[1, 2]), image]), 0, Kind::Size([20.0, 30.0])),
            ("shape", graph(&[image, ("im_shape", DType::F32, &[1, 2])]), 1, Kind::Size([20.0, 30.0])),
            ("factor", graph(&[image, ("scale_factor", DType::F32, &[1, 2])]), 1, Kind::Factor),
            ("features", graph(&[("x", DType::F32, &[1, 9])]), 0, Kind::Numbers { described: true }),
            ("features beside", graph(&[image, ("x", DType::F32, &[1, 9])]), 1, Kind::Numbers { described: false }),
        ];
        let mut failed = Vec::new();
        for (name, graph, input, expected) in cases {
            let found = kind_of(&graph, graph.inputs[input]);
            if found != expected {
                failed.push(format!("{name}: {found:?}"));
            }
        }
        assert!(failed.is_empty(), "{failed:#?}");
    }

    #[test]
    fn images_with_channels_last_are_those_with_channels_first_transposed() {
        let first = graph(&[("x", DType::F32, &[2, 3, 5, 6])]);
        let last = graph(&[("x", DType::F32, &[2, 5, 6, 3])]);
        let make = |graph: &Graph| synthetic_inputs(graph, 2, (&[0.0], &[1.0]), 3, 1).unwrap()[0].to_array().unwrap();
        assert_eq!(make(&first).permuted_axes(vec![0, 2, 3, 1]), make(&last));
    }
}
