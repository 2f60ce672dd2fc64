//! Values of tensors in the float network on synthetic inputs, with the trained statistics of its batch normalization.
//!
//! Synthetic inputs lack features of real ones, and the means and standard deviations of deeper tensors drift farther
//! from the trained ones. Where batch-normalization statistics are known, every normalized tensor is standardized over
//! the batch and rescaled to its trained mean and standard deviation, so that each layer's input has the right channel
//! statistics.

use std::collections::HashMap;

use super::CalibrationContext;
use crate::error::Result;
use crate::ir::{Attr, DType, Graph, Node, Tensor, ValueId};
use crate::runtime::{Engine, PIECE_BYTES, SessionOptions, run_in_batches};
use crate::stats::BatchNorm;

/// The most inputs to run; fewer where the observed tensors would take more than [`MEMORY`].
pub const SAMPLES: usize = 32;
/// The most bytes for observed tensors.
const MEMORY: usize = 256 << 20;
/// Smaller batches have no usable statistics of their own.
const SMALLEST_BATCH: usize = 8;
/// Smaller variances are treated as zero.
const NO_VARIANCE: f32 = 1e-20;

/// The values of one tensor.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The values in row-major order, samples first.
    pub values: Vec<f32>,
    /// The dimensions.
    pub shape: Vec<usize>,
}

impl Sample {
    /// Appends samples of the same shape; ignores samples of other shapes.
    fn extend(&mut self, values: &[f32], shape: &[usize]) {
        if let ([first, rest @ ..], [more, of_each @ ..]) = (&mut self.shape[..], shape)
            && rest == of_each
        {
            *first += more;
            self.values.extend_from_slice(values);
        }
    }

    /// Returns the mean over all axes but `axis`, one per index of it.
    pub fn means(&self, axis: usize) -> Vec<f64> {
        let channels = self.shape.get(axis).copied().unwrap_or(1);
        let inner: usize = self.shape.iter().skip(axis + 1).product();
        let mut sums = vec![0.0f64; channels];
        for (i, run) in self.values.chunks(inner.max(1)).enumerate() {
            sums[i % channels] += run.iter().map(|&v| f64::from(v)).sum::<f64>();
        }
        let n = (self.values.len() / channels.max(1)).max(1) as f64;
        sums.into_iter().map(|s| s / n).collect()
    }
}

/// Returns the values of each tensor in `wanted` on synthetic inputs, without tensors that are not finite.
///
/// # Errors
/// When the engine cannot run the float graph.
pub fn sample(float: &Graph, wanted: &[ValueId], context: &CalibrationContext) -> Result<HashMap<ValueId, Sample>> {
    let mut taps: Vec<ValueId> = wanted.to_vec();
    taps.sort_unstable();
    taps.dedup();
    if taps.is_empty() {
        return Ok(HashMap::new());
    }
    let mut graph = float.clone();
    let renamed = match float.fixed_batch() {
        Some(batch) if batch < SMALLEST_BATCH => HashMap::new(),
        _ => renormalise(&mut graph, context.norms),
    };
    let inputs = context.inputs(float, samples_within(float, &taps, SAMPLES))?;
    run(graph, &renamed, &taps, &[inputs], context.engine)
}

/// Returns the values of each tensor in `wanted` in the unchanged float network on all of `sets` of inputs, without
/// tensors that are not finite.
///
/// # Errors
/// When the engine cannot run the float graph.
pub fn tap(
    float: &Graph,
    wanted: &[ValueId],
    sets: &[Vec<Tensor>],
    engine: &dyn Engine,
) -> Result<HashMap<ValueId, Sample>> {
    let mut taps: Vec<ValueId> = wanted.to_vec();
    taps.sort_unstable();
    taps.dedup();
    if taps.is_empty() {
        return Ok(HashMap::new());
    }
    run(float.clone(), &HashMap::new(), &taps, sets, engine)
}

/// Returns the values of `taps` on all of `sets` of inputs; `renamed` maps a tap to the tensor of `graph` that replaces
/// it.
fn run(
    mut graph: Graph,
    renamed: &HashMap<ValueId, ValueId>,
    taps: &[ValueId],
    sets: &[Vec<Tensor>],
    engine: &dyn Engine,
) -> Result<HashMap<ValueId, Sample>> {
    graph.outputs = taps.iter().map(|id| renamed.get(id).copied().unwrap_or(*id)).collect();
    for id in graph.outputs.clone() {
        graph.value_mut(id).dtype.get_or_insert(DType::F32);
    }
    graph.sort()?;
    graph.sweep();
    let options = SessionOptions { piece_bytes: Some(PIECE_BYTES), ..SessionOptions::default() };
    let mut session = engine.load(&graph, &options)?;
    let mut found: HashMap<ValueId, Sample> = HashMap::new();
    for inputs in sets {
        let outputs = run_in_batches(session.as_mut(), &graph, inputs)?;
        for (&id, tensor) in taps.iter().zip(outputs) {
            let (values, shape) = (tensor.to_f32()?, tensor.shape().to_vec());
            found.entry(id).and_modify(|sample| sample.extend(&values, &shape)).or_insert(Sample { values, shape });
        }
    }
    found.retain(|_, sample| sample.values.iter().all(|v| v.is_finite()));
    Ok(found)
}

/// Returns the number of inputs to run, at most `most`, so that the values of `taps` fit in memory.
pub fn samples_within(graph: &Graph, taps: &[ValueId], most: usize) -> usize {
    let per_sample: usize = taps.iter().map(|id| graph.value(*id).sample_len()).sum::<usize>() * 4;
    (MEMORY / per_sample.max(1)).clamp(1, most)
}

/// Inserts `y' = (y - mean(y)) / std(y) · deviation + beta` behind every normalized tensor `y` of known rank and
/// returns the replacement of each tensor.
fn renormalise(graph: &mut Graph, norms: &[BatchNorm]) -> HashMap<ValueId, ValueId> {
    let mut renamed = HashMap::new();
    for norm in norms {
        let Some((y, rank)) = normalized(graph, norm) else { continue };
        let before = graph.nodes.len();
        let standard = standardised(graph, y, rank, norm);
        replace_reads(graph, y, standard, before);
        renamed.insert(y, standard);
    }
    renamed
}

/// Returns the tensor that `norm` describes and its rank, where a node of the graph makes it with these channels.
pub fn normalized(graph: &Graph, norm: &BatchNorm) -> Option<(ValueId, usize)> {
    let y = graph.find(&norm.output)?;
    let shape = graph.value(y).shape.as_ref()?;
    let is_made = graph.nodes.iter().any(|node| node.output(0) == Some(y));
    let has_channels = shape.get(1).is_some_and(|channels| channels.known() == Some(norm.beta.len()));
    (is_made && has_channels).then_some((y, shape.len()))
}

/// Makes the first `nodes` nodes read `other` in place of `y`: those behind them compute `other` from `y`.
pub fn replace_reads(graph: &mut Graph, y: ValueId, other: ValueId, nodes: usize) {
    let inputs = graph.nodes[..nodes].iter_mut().flat_map(|node| node.inputs.iter_mut());
    inputs.filter(|input| **input == Some(y)).for_each(|input| *input = Some(other));
}

/// The trained statistics of a tensor and those over the batch, per channel.
pub struct ChannelStatistics {
    /// The trained standard deviation.
    pub trained: ValueId,
    /// The trained mean.
    pub beta: ValueId,
    /// The mean over the batch.
    pub mean: ValueId,
    /// The tensor less that mean.
    pub centered: ValueId,
    /// The standard deviation over the batch.
    pub std: ValueId,
}

impl ChannelStatistics {
    /// Adds the nodes that compute them for `y` of `rank` axes.
    pub fn add(graph: &mut Graph, y: ValueId, rank: usize, norm: &BatchNorm) -> Self {
        let mut dims = vec![1; rank];
        dims[1] = norm.beta.len();
        let std: Vec<f32> = norm.std().into_iter().map(|d| d as f32).collect();
        let constants = [("deviation", std), ("beta", norm.beta.clone())];
        let [trained, beta] = constants.map(|(name, v)| graph.add_constant(name, Tensor::from_f32(&dims, &v)));
        let least = graph.add_constant("no_variance", Tensor::from_f32(&[], &[NO_VARIANCE]));
        let mean = reduce_mean(graph, y, rank);
        let centered = push(graph, "Sub", &[y, mean]);
        let squares = push(graph, "Mul", &[centered, centered]);
        let variance = reduce_mean(graph, squares, rank);
        let variance = push(graph, "Max", &[variance, least]);
        let std = push(graph, "Sqrt", &[variance]);
        Self { trained, beta, mean, centered, std }
    }
}

fn standardised(graph: &mut Graph, y: ValueId, rank: usize, norm: &BatchNorm) -> ValueId {
    let ChannelStatistics { trained, beta, centered, std, .. } = ChannelStatistics::add(graph, y, rank, norm);
    let standard = push(graph, "Div", &[centered, std]);
    let scaled = push(graph, "Mul", &[standard, trained]);
    push(graph, "Add", &[scaled, beta])
}

/// Adds the mean over all axes but the channels', which keep their axes.
fn reduce_mean(graph: &mut Graph, x: ValueId, rank: usize) -> ValueId {
    let axes: Vec<i64> = (0i64..).take(rank).filter(|&axis| axis != 1).collect();
    if graph.opset() >= 18 {
        let axes = graph.add_constant("axes", Tensor::from_i64(&[axes.len()], &axes));
        return push(graph, "ReduceMean", &[x, axes]);
    }
    let y = push(graph, "ReduceMean", &[x]);
    if let Some(node) = graph.nodes.last_mut() {
        node.set("axes", Attr::Ints(axes));
    }
    y
}

/// Adds a node of float32 output.
pub fn push(graph: &mut Graph, op_type: &str, inputs: &[ValueId]) -> ValueId {
    let y = graph.add_value("renormalised");
    graph.value_mut(y).dtype = Some(DType::F32);
    graph.nodes.push(Node::new(op_type, inputs.iter().copied(), [y], []));
    y
}
