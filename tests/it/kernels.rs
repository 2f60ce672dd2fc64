//! Custom operators against the standard operators that they stand for, in ONNX Runtime.

mod channels;
mod elementwise;
mod lowerings;
mod refusals;
mod select;
mod weight_gradient;

use dfq_onnx::ir::{Attrs, DType, Dim, Graph, Node, OperatorSet, Tensor};
use dfq_onnx::runtime::kernels::DOMAIN;
use dfq_onnx::runtime::{Engine, Optimisation, SessionOptions};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use crate::support::ort;

/// Returns a graph of one custom operator with inputs of these shapes.
pub fn single(op_type: &str, shapes: &[&[usize]], outputs: usize, attrs: impl Into<Attrs>) -> Graph {
    let mut graph = Graph::default();
    graph.ir_version = 10;
    graph.set_opset(21);
    graph.opsets.push(OperatorSet { domain: Some(DOMAIN.to_owned()), version: 1 });
    for (i, shape) in shapes.iter().enumerate() {
        let id = graph.add_value(&format!("x{i}"));
        let value = graph.value_mut(id);
        (value.dtype, value.shape) = (Some(DType::F32), Some(shape.iter().map(|&n| Dim::Known(n)).collect()));
        graph.inputs.push(id);
    }
    for i in 0..outputs {
        let id = graph.add_value(&format!("y{i}"));
        graph.value_mut(id).dtype = Some(DType::F32);
        graph.outputs.push(id);
    }
    let (inputs, outputs) = (graph.inputs.clone(), graph.outputs.clone());
    graph.nodes.push(Node { name: "it".into(), domain: DOMAIN.into(), ..Node::new(op_type, inputs, outputs, attrs) });
    graph
}

/// Returns what a graph makes of `inputs`, or the message with which it fails.
pub fn run(graph: &Graph, inputs: &[Tensor], threads: usize) -> Result<Vec<Tensor>, String> {
    let options =
        SessionOptions { optimisation: Optimisation::None, threads: Some(threads), ..SessionOptions::default() };
    let mut session = ort().load(graph, &options).map_err(|e| e.to_string())?;
    session.run(inputs).map_err(|e| e.to_string())
}

/// Returns what a graph makes of `inputs` with one thread, or why other numbers of threads make something else.
pub fn run_alike(graph: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>, String> {
    let expected = run(graph, inputs, 1)?;
    for threads in [2, 3] {
        let found = run(graph, inputs, threads)?;
        if found.iter().zip(&expected).any(|(a, b)| a.bytes() != b.bytes()) {
            return Err(format!("{threads} threads give other bytes than one"));
        }
    }
    Ok(expected)
}

/// Returns standard-normal elements.
pub fn normal(shape: &[usize], seed: u64) -> Tensor {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.sample(StandardNormal)).collect();
    Tensor::from_f32(shape, &values)
}

/// Returns elements from 0.5 to 1.5.
pub fn positive(shape: &[usize], seed: u64) -> Tensor {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.random_range(0.5..1.5)).collect();
    Tensor::from_f32(shape, &values)
}

/// Returns the tensor as it lies in memory in blocks, under the shape that ONNX Runtime gives it.
pub fn to_blocks(tensor: &Tensor, block: usize) -> Tensor {
    let &[n, c, h, w] = tensor.shape() else { panic!("images have four axes") };
    let (values, padded) = (tensor.to_f32().unwrap(), c.next_multiple_of(block));
    let mut blocked = vec![0.0; n * padded * h * w];
    for (i, value) in values.into_iter().enumerate() {
        let (image, channel, pixel) = (i / (c * h * w), i / (h * w) % c, i % (h * w));
        blocked[((image * padded / block + channel / block) * h * w + pixel) * block + channel % block] = value;
    }
    Tensor::from_f32(&[n, padded, h, w], &blocked)
}
