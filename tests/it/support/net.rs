//! Layers with made-up weights for graphs under construction, and graphs compared by what they compute.

use dfq_onnx::ir::{Attr, Attrs, Dim, Graph, Tensor, text};
use dfq_onnx::runtime::{Engine, Optimisation, SessionOptions};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use super::build::Build;
use super::{ort, random_inputs, relative_rms};

/// Returns standard-normal values times `scale`, the same for the same seed.
pub fn normal(shape: &[usize], scale: f32, seed: u64) -> Tensor {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| scale * rng.sample::<f32, _>(StandardNormal)).collect();
    Tensor::from_f32(shape, &values)
}

/// Adds `y = op(x, {y}_w, {y}_b)` with a weight of this shape and a bias of so many values (none for 0).
pub fn layer(g: &mut Build, op: &str, x: &str, y: &str, weight: &[usize], bias: usize, attrs: impl Into<Attrs>) {
    let inner: usize = weight[1..].iter().product();
    let (w, b) = (format!("{y}_w"), format!("{y}_b"));
    let seed = y.bytes().fold(7u64, |seed, byte| seed * 31 + u64::from(byte));
    g.constant(&w, normal(weight, (2.0 / inner as f32).sqrt(), seed));
    if bias == 0 {
        g.node(op, &format!("{x} {w}"), y, attrs);
    } else {
        g.constant(&b, normal(&[bias], 0.3, seed + 1));
        g.node(op, &format!("{x} {w} {b}"), y, attrs);
    }
}

/// Adds `y = BatchNormalization(x)` with statistics of its own, of which channel 1 has gamma 0.
pub fn norm(g: &mut Build, x: &str, y: &str, channels: usize) {
    let mut gamma = normal(&[channels], 1.0, 11).to_f32().unwrap();
    gamma[1] = 0.0;
    g.constant(&format!("{y}_gamma"), Tensor::from_f32(&[channels], &gamma));
    g.constant(&format!("{y}_beta"), normal(&[channels], 0.5, 12));
    g.constant(&format!("{y}_mean"), normal(&[channels], 0.5, 13));
    let variance: Vec<f32> = (0..channels).map(|c| 0.3 + c as f32 / 4.0).collect();
    g.constant(&format!("{y}_var"), Tensor::from_f32(&[channels], &variance));
    g.node("BatchNormalization", &format!("{x} {y}_gamma {y}_beta {y}_mean {y}_var"), y, []);
}

/// Returns the attribute `pads` of two spatial axes, equal on all sides.
pub fn pads(n: i64) -> [(&'static str, Attr); 1] {
    [("pads", vec![n; 4].into())]
}

/// Makes the first axis of every input the symbol `N`.
pub fn with_dynamic_batch(mut graph: Graph) -> Graph {
    for id in graph.inputs.clone() {
        if let Some(dim) = graph.value_mut(id).shape.as_mut().and_then(|shape| shape.first_mut()) {
            *dim = Dim::Symbol("N".to_owned());
        }
    }
    graph
}

/// Returns the dump of a graph without the lines of its inputs and outputs.
pub fn nodes(graph: &Graph) -> Vec<String> {
    let text = text(graph);
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines[1..lines.len() - 1].to_vec()
}

/// Returns the outputs of a graph whose nodes run as they are written in ONNX Runtime.
pub fn run(graph: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>, String> {
    run_as(graph, inputs, Optimisation::None)
}

/// Returns the outputs of a graph in ONNX Runtime with its default options.
pub fn run_optimised(graph: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>, String> {
    run_as(graph, inputs, Optimisation::Default)
}

fn run_as(graph: &Graph, inputs: &[Tensor], optimisation: Optimisation) -> Result<Vec<Tensor>, String> {
    let options = SessionOptions { optimisation, ..SessionOptions::default() };
    let mut session = ort().load(graph, &options).map_err(|e| e.to_string())?;
    session.run(inputs).map_err(|e| e.to_string())
}

/// Says where `after` computes something else than `before` on random inputs.
pub fn same_outputs(before: &Graph, after: &Graph, tolerance: f64) -> Result<(), String> {
    let inputs = random_inputs(before, 2, 5);
    let (expected, found) = (run(before, &inputs)?, run(after, &inputs)?);
    for (i, (f, e)) in found.iter().zip(&expected).enumerate() {
        let error = if f.dtype() == dfq_onnx::ir::DType::F32 {
            relative_rms(f, e)
        } else if f == e {
            0.0
        } else {
            f64::INFINITY
        };
        if error > tolerance {
            return Err(format!("output {i} differs by {error:.1e}"));
        }
    }
    Ok(())
}
