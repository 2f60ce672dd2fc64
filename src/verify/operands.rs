//! Layers as products of a matrix of weights and columns of inputs, both in integers, in the order of ONNX Runtime's
//! integer kernels: kernel positions, then input channels.

use std::collections::HashMap;
use std::ops::Range;

use super::structure::Quantizer;
use crate::ir::{DType, Graph, Node, Tensor, ValueId, is_dequantize};

/// A Conv, Gemm or MatMul of uint8 inputs and constant int8 weights.
pub struct Product {
    /// Its name in messages.
    pub name: String,
    /// Its result.
    pub output: ValueId,
    /// The quantizer of its input.
    pub quantizer: usize,
    /// Weights of each output channel.
    pub rows: Vec<Vec<i8>>,
    input_scale: f32,
    input_zero_point: u8,
    weight_scale: Vec<f32>,
    form: Form,
}

enum Form {
    Rows,
    Window(ProductWindow),
}

/// A convolution over two axes.
#[derive(Clone)]
struct ProductWindow {
    group: usize,
    channels_per_group: usize,
    kernel: [usize; 2],
    strides: [usize; 2],
    dilations: [usize; 2],
    pads: Pads,
}

#[derive(Clone)]
enum Pads {
    /// Before and after each axis.
    Explicit([usize; 4]),
    /// SAME padding; whether an odd element goes before.
    Same(bool),
}

/// Returns the layers of `graph` whose input is one of `quantizers` and whose order of products is known.
pub fn products(graph: &Graph, quantizers: &[Quantizer]) -> Vec<Product> {
    let uses = graph.uses();
    let mut quantizer_of: HashMap<ValueId, usize> = HashMap::new();
    for (i, quantizer) in quantizers.iter().enumerate().filter(|(_, quantizer)| quantizer.dtype == DType::U8) {
        for &id in &quantizer.dequantized {
            quantizer_of.entry(id).or_insert(i);
        }
    }
    let layer = |node: &Node| -> Option<Product> {
        let input = node.input(0)?;
        let quantizer = *quantizer_of.get(&input)?;
        let grid = quantizers[quantizer].grid.as_ref().filter(|grid| grid.scale.len() == 1)?;
        let dequantize = &graph.nodes[uses.producer(node.input(1)?)?];
        let weight = dequantize.input(0).filter(|_| is_dequantize(dequantize)).and_then(|id| graph.constant_of(id))?;
        let weight_scale = graph.constant_of(dequantize.input(1)?)?.to_f32().ok()?;
        let (rows, form) = rows(node, weight)?;
        let name = if node.name.is_empty() { graph.name_of(node.output(0)?) } else { &node.name };
        (weight_scale.len() == 1 || weight_scale.len() == rows.len()).then_some(Product {
            name: name.to_owned(),
            output: node.output(0)?,
            quantizer,
            rows,
            input_scale: grid.scale[0],
            input_zero_point: u8::try_from(grid.zero_point[0]).ok()?,
            weight_scale,
            form,
        })
    };
    graph.nodes.iter().filter_map(layer).collect()
}

/// Returns the weights in the order of kernels, one row per output channel.
fn rows(node: &Node, weight: &Tensor) -> Option<(Vec<Vec<i8>>, Form)> {
    let integers: Vec<i8> = weight.to_i64().ok()?.into_iter().map(i8::try_from).collect::<Result<_, _>>().ok()?;
    match (node.op_type.as_str(), weight.shape()) {
        ("Conv", &[outputs, channels, height, width]) => {
            let window = ProductWindow::of(node, channels, [height, width]).filter(|_| channels > 1)?;
            let positions = height * width;
            let row = |o: usize| {
                let at = |k: usize| integers[(o * channels + k % channels) * positions + k / channels];
                (0..channels * positions).map(at).collect()
            };
            Some(((0..outputs).map(row).collect(), Form::Window(window)))
        }
        ("Gemm" | "MatMul", &[a, b]) => {
            if node.attrs.int("transA", 0) != 0 {
                return None;
            }
            let transposed = node.attrs.int("transB", 0) != 0;
            let (k, n) = if transposed { (b, a) } else { (a, b) };
            let at = |o: usize, i: usize| if transposed { integers[o * k + i] } else { integers[i * n + o] };
            Some(((0..n).map(|o| (0..k).map(|i| at(o, i)).collect()).collect(), Form::Rows))
        }
        _ => None,
    }
}

impl Product {
    /// Returns the scale of the accumulator of an output channel.
    pub fn scale(&self, channel: usize) -> f64 {
        let weight = self.weight_scale[if self.weight_scale.len() == 1 { 0 } else { channel }];
        f64::from(self.input_scale) * f64::from(weight)
    }

    /// Returns the inputs that each group of output channels reads, one item per sample and group; empty if the
    /// integers do not fit the layer.
    pub fn columns<'a>(&'a self, integers: &'a Tensor) -> Vec<Columns<'a>> {
        let shape = integers.shape();
        match &self.form {
            Form::Rows => {
                let k = self.rows.first().map_or(1, Vec::len);
                let fits = shape.last() == Some(&k);
                let columns = Columns { channels: 0..self.rows.len(), x: integers.bytes(), reads: Reads::Rows { k } };
                if fits { vec![columns] } else { Vec::new() }
            }
            Form::Window(window) => {
                let &[samples, channels, height, width] = shape else { return Vec::new() };
                if channels != window.group * window.channels_per_group {
                    return Vec::new();
                }
                let Some(place) = window.place([height, width]) else { return Vec::new() };
                let outputs = self.rows.len() / window.group;
                let item = window.channels_per_group * height * width;
                (0..samples * window.group)
                    .map(|i| Columns {
                        channels: (i % window.group) * outputs..(i % window.group + 1) * outputs,
                        x: &integers.bytes()[i * item..(i + 1) * item],
                        reads: Reads::Window { window, place: place.clone(), padding: self.input_zero_point },
                    })
                    .collect()
            }
        }
    }
}

/// The inputs of some output channels: a matrix of which columns are positions of the result.
pub struct Columns<'a> {
    /// The output channels.
    pub channels: Range<usize>,
    x: &'a [u8],
    reads: Reads<'a>,
}

enum Reads<'a> {
    Rows { k: usize },
    Window { window: &'a ProductWindow, place: Place, padding: u8 },
}

/// The position of a window on an input.
#[derive(Clone)]
struct Place {
    input: [usize; 2],
    output: [usize; 2],
    before: [usize; 2],
}

impl Columns<'_> {
    /// Returns the number of positions of the result.
    pub fn positions(&self) -> usize {
        match &self.reads {
            Reads::Rows { k } => self.x.len() / k.max(&1),
            Reads::Window { place, .. } => place.output[0] * place.output[1],
        }
    }

    /// Returns the inputs multiplied by weight `k` of every row, one per position.
    pub fn gather(&self, k: usize) -> Vec<u8> {
        match &self.reads {
            Reads::Rows { k: all } => self.x.iter().skip(k).step_by(*all).copied().collect(),
            Reads::Window { window, place, padding } => {
                let (channel, at) = (k % window.channels_per_group, k / window.channels_per_group);
                let offset = [at / window.kernel[1], at % window.kernel[1]];
                let source = |axis: usize, position: usize| {
                    let moved = position * window.strides[axis] + offset[axis] * window.dilations[axis];
                    moved.checked_sub(place.before[axis]).filter(|&i| i < place.input[axis])
                };
                let [height, width] = place.input;
                let mut gathered = Vec::with_capacity(self.positions());
                for y in (0..place.output[0]).map(|position| source(0, position)) {
                    for x in (0..place.output[1]).map(|position| source(1, position)) {
                        let found = y.zip(x).map(|(y, x)| self.x[(channel * height + y) * width + x]);
                        gathered.push(found.unwrap_or(*padding));
                    }
                }
                gathered
            }
        }
    }
}

impl ProductWindow {
    fn of(node: &Node, channels_per_group: usize, kernel: [usize; 2]) -> Option<Self> {
        let sizes = |name: &str| -> Option<[usize; 2]> {
            let Some(values) = node.ints(name) else { return Some([1, 1]) };
            let values: Vec<usize> = values.iter().filter_map(|&v| usize::try_from(v).ok()).collect();
            <[usize; 2]>::try_from(values).ok().filter(|values| !values.contains(&0))
        };
        let pads = match node.attrs.string("auto_pad").unwrap_or("NOTSET") {
            "SAME_UPPER" => Pads::Same(false),
            "SAME_LOWER" => Pads::Same(true),
            "VALID" => Pads::Explicit([0; 4]),
            _ => {
                let given = node.ints("pads").unwrap_or(&[0; 4]);
                let given: Vec<usize> = given.iter().filter_map(|&v| usize::try_from(v).ok()).collect();
                Pads::Explicit(given.try_into().ok()?)
            }
        };
        let group = usize::try_from(node.attrs.int("group", 1)).ok().filter(|&group| group > 0)?;
        Some(Self {
            group,
            channels_per_group,
            kernel,
            strides: sizes("strides")?,
            dilations: sizes("dilations")?,
            pads,
        })
    }

    fn place(&self, input: [usize; 2]) -> Option<Place> {
        let (mut output, mut before) = ([0; 2], [0; 2]);
        for axis in 0..2 {
            let span = (self.kernel[axis].checked_sub(1)?) * self.dilations[axis] + 1;
            match self.pads {
                Pads::Explicit(pads) => {
                    before[axis] = pads[axis];
                    let padded = input[axis] + pads[axis] + pads[axis + 2];
                    output[axis] = padded.checked_sub(span)? / self.strides[axis] + 1;
                }
                Pads::Same(odd_before) => {
                    output[axis] = input[axis].div_ceil(self.strides[axis]);
                    let needed = (output[axis].checked_sub(1)? * self.strides[axis] + span).saturating_sub(input[axis]);
                    before[axis] = if odd_before { needed.div_ceil(2) } else { needed / 2 };
                }
            }
        }
        Some(Place { input, output, before })
    }
}
