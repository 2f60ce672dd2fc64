//! A small residual network and its quantized twin, made by hand: uint8 and 4-bit activations, int8 and int4 weights.

use std::collections::HashMap;

use dfq_onnx::data::{InputMoments, synthetic_inputs};
use dfq_onnx::ir::{Attr, Attrs, DType, Dim, Graph, Node, Tensor, ValueId};
use dfq_onnx::runtime::{Engine, SessionOptions, TractEngine};
use dfq_onnx::verify::tap;

/// Classes of the network.
const CLASSES: usize = 5;

/// How one weight is stored.
#[derive(Clone, Copy)]
pub struct WeightGrid {
    /// Its bits, in two's complement without the lowest value.
    pub bits: u32,
    /// The type that holds it.
    pub container: DType,
}

/// Returns `conv1 -> relu -> conv2 -> add -> relu -> max pool -> mean -> gemm` on images `[N, 3, 8, 8]`.
pub fn float_net() -> Graph {
    let mut graph = Graph::default();
    graph.name = "twin".to_owned();
    graph.ir_version = 10;
    graph.set_opset(21);
    let x = graph.add_value("x");
    graph.value_mut(x).dtype = Some(DType::F32);
    let shape = [3, 8, 8].map(Dim::Known);
    graph.value_mut(x).shape = Some(std::iter::once(Dim::Symbol("N".to_owned())).chain(shape).collect());
    graph.inputs.push(x);
    let mut numbers = Numbers(1);
    let conv = || Attrs::from([("pads", Attr::Ints(vec![1, 1, 1, 1])), ("kernel_shape", Attr::Ints(vec![3, 3]))]);
    let mut weights = |graph: &mut Graph, name: &str, shape: &[usize]| {
        let inputs: usize = shape[1..].iter().product();
        let w = numbers.take(shape.iter().product(), (2.0 / inputs as f32).sqrt());
        let b = numbers.take(shape[0], 0.1);
        let w = graph.add_constant(&format!("{name}.weight"), Tensor::from_f32(shape, &w));
        (w, graph.add_constant(&format!("{name}.bias"), Tensor::from_f32(&shape[..1], &b)))
    };
    let (w, b) = weights(&mut graph, "conv1", &[8, 3, 3, 3]);
    let c1 = node(&mut graph, "conv1", "Conv", &[x, w, b], conv());
    let r1 = node(&mut graph, "relu1", "Relu", &[c1], Attrs::default());
    let (w, b) = weights(&mut graph, "conv2", &[8, 8, 3, 3]);
    let c2 = node(&mut graph, "conv2", "Conv", &[r1, w, b], conv());
    let sum = node(&mut graph, "add", "Add", &[c2, r1], Attrs::default());
    let r2 = node(&mut graph, "relu2", "Relu", &[sum], Attrs::default());
    let two = || Attr::Ints(vec![2, 2]);
    let pool = node(&mut graph, "pool", "MaxPool", &[r2], [("kernel_shape", two()), ("strides", two())].into());
    let mean = node(&mut graph, "mean", "GlobalAveragePool", &[pool], Attrs::default());
    let flat = node(&mut graph, "flat", "Flatten", &[mean], Attrs::default());
    let (w, b) = weights(&mut graph, "gemm", &[CLASSES, 8]);
    let logits = node(&mut graph, "logits", "Gemm", &[flat, w, b], [("transB", Attr::Int(1))].into());
    graph.value_mut(logits).dtype = Some(DType::F32);
    graph.value_mut(logits).shape = Some(vec![Dim::Symbol("N".to_owned()), Dim::Known(CLASSES)]);
    graph.outputs.push(logits);
    graph
}

/// Returns the quantized twin of [`float_net`]: conv1 and gemm weights in int8, conv2 in `conv2`, activations in uint8,
/// of which `relu2` has 4 bits (a Clip to 0..=15).
pub fn quantized_net(conv2: WeightGrid) -> Graph {
    let float = float_net();
    let ranges = ranges(&float, &["x", "relu1", "conv2", "relu2", "flat"]);
    let mut graph = float;
    let int8 = WeightGrid { bits: 8, container: DType::I8 };
    for (layer, input, grid) in [("conv1", "x", int8), ("conv2", "relu1", conv2), ("gemm", "flat", int8)] {
        let input_scale = scale_and_zero_point(ranges[input], 255).0;
        quantize_weight(&mut graph, layer, grid, input_scale);
    }
    for name in ["x", "relu1", "conv2", "relu2", "flat"] {
        let highest = if name == "relu2" { 15 } else { 255 };
        quantize_activation(&mut graph, name, ranges[name], highest);
    }
    graph.sort().unwrap();
    graph
}

/// Numbers that are the same on every machine.
struct Numbers(u64);

impl Numbers {
    fn take(&mut self, n: usize, scale: f32) -> Vec<f32> {
        let mut one = || {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 40) as f32 / 8_388_608.0 - 1.0
        };
        (0..n).map(|_| one() * 1.7 * scale).collect()
    }
}

fn node(graph: &mut Graph, name: &str, op: &str, inputs: &[ValueId], attrs: Attrs) -> ValueId {
    let output = graph.add_value(name);
    let mut node = Node::new(op, inputs.iter().copied(), [output], attrs);
    node.name = name.to_owned();
    graph.nodes.push(node);
    output
}

fn ranges(graph: &Graph, names: &[&'static str]) -> HashMap<&'static str, (f32, f32)> {
    let ids: Vec<_> = names.iter().map(|name| (graph.find(name).unwrap(), DType::F32)).collect();
    let (tapped, sources) = tap(graph, &ids);
    let inputs = synthetic_inputs(graph, 64, InputMoments::STANDARD, 99, 1).unwrap();
    let outputs = TractEngine.load(&tapped, &SessionOptions::default()).unwrap().run(&inputs).unwrap();
    let range = |(name, source): (&&'static str, &dfq_onnx::verify::TapLocation)| {
        let values = source.pick(&inputs, &outputs).to_f32().unwrap();
        (*name, values.iter().fold((0f32, 0f32), |(lo, hi), &v| (lo.min(v), hi.max(v))))
    };
    names.iter().zip(&sources).map(range).collect()
}

fn scale_and_zero_point((low, high): (f32, f32), highest: i32) -> (f32, i32) {
    let scale = (high - low) / highest as f32;
    (scale, (-low / scale).round() as i32)
}

fn quantize_activation(graph: &mut Graph, name: &str, range: (f32, f32), highest: i32) {
    let id = graph.find(name).unwrap();
    let (scale, zero) = scale_and_zero_point(range, highest);
    let scale = graph.add_constant(&format!("{name}_scale"), Tensor::from_f32(&[], &[scale]));
    let integer = |v| Tensor::from_ints(DType::U8, &[], &[v]).unwrap();
    let zero = graph.add_constant(&format!("{name}_zero_point"), integer(zero));
    let readers: Vec<usize> = (0..graph.nodes.len()).filter(|&i| graph.nodes[i].inputs.contains(&Some(id))).collect();
    let mut integers =
        node(graph, &format!("{name}_quantized"), "QuantizeLinear", &[id, scale, zero], Attrs::default());
    if highest < 255 {
        let bounds = [0, highest].map(integer);
        let [lo, hi] = bounds.map(|t| graph.add_constant("bound", t));
        integers = node(graph, &format!("{name}_clipped"), "Clip", &[integers, lo, hi], Attrs::default());
    }
    let back = format!("{name}_dequantized");
    let back = node(graph, &back, "DequantizeLinear", &[integers, scale, zero], Attrs::default());
    for i in readers {
        for input in graph.nodes[i].inputs.iter_mut().filter(|input| **input == Some(id)) {
            *input = Some(back);
        }
    }
}

fn quantize_weight(graph: &mut Graph, layer: &str, grid: WeightGrid, input_scale: f32) {
    let (w, b) = (format!("{layer}.weight"), format!("{layer}.bias"));
    let (w, b) = (graph.find(&w).unwrap(), graph.find(&b).unwrap());
    let tensor = graph.constant_of(w).unwrap().clone();
    let channels = tensor.shape()[0];
    let values = tensor.to_f32().unwrap();
    let highest = (1i32 << (grid.bits - 1)) - 1;
    let per = values.len() / channels;
    let scales: Vec<f32> =
        values.chunks(per).map(|c| c.iter().fold(0f32, |m, v| m.max(v.abs())) / highest as f32).collect();
    let integers: Vec<i32> =
        values.iter().enumerate().map(|(i, v)| (v / scales[i / per]).round_ties_even() as i32).collect();
    let integers = Tensor::from_ints(grid.container, tensor.shape(), &integers).unwrap();
    let zeros = Tensor::from_ints(grid.container, &[channels], &vec![0; channels]).unwrap();
    dequantize(graph, w, integers, &scales, Some(zeros));
    let bias = graph.constant_of(b).unwrap().to_f32().unwrap();
    let scales: Vec<f32> = scales.iter().map(|s| s * input_scale).collect();
    let bias: Vec<i32> = bias.iter().zip(&scales).map(|(v, s)| (v / s).round() as i32).collect();
    dequantize(graph, b, Tensor::from_ints(DType::I32, &[channels], &bias).unwrap(), &scales, None);
}

fn dequantize(graph: &mut Graph, old: ValueId, integers: Tensor, scales: &[f32], zeros: Option<Tensor>) {
    let name = graph.name_of(old).to_owned();
    let mut inputs = vec![
        graph.add_constant(&format!("{name}_integers"), integers),
        graph.add_constant(&format!("{name}_scale"), Tensor::from_f32(&[scales.len()], scales)),
    ];
    inputs.extend(zeros.map(|t| graph.add_constant(&format!("{name}_zero_point"), t)));
    let back =
        node(graph, &format!("{name}_dequantized"), "DequantizeLinear", &inputs, [("axis", Attr::Int(0))].into());
    graph.replace_uses(old, back);
    graph.value_mut(old).constant = None;
}
