//! The values of tensors in the float network and in the quantized one, on the same inputs, segment by segment.
//!
//! Where batch-normalization statistics are known, each normalized tensor of the float network is standardized over the
//! batch and rescaled to its trained mean and standard deviation; the same scale and shift apply to the quantized network.

use super::segments::Segment;
use crate::calibrate::{CalibrationContext, ChannelStatistics, normalized, push, replace_reads};
use crate::error::Result;
use crate::ir::{DType, Dim, Graph, Tensor, ValueId};
use crate::plan::total_macs;
use crate::runtime::{Engine, SessionOptions};
use crate::stats::BatchNorm;

/// Inputs at most and at least.
const SAMPLES: [usize; 2] = [16, 128];
/// Samples in one run, whose statistics are taken together.
const CHUNK: usize = 32;
/// The most bytes for the values of a tensor between segments in both networks.
const BYTES: usize = 256 << 20;
/// Multiply-accumulates of the float network that may be spent on all samples.
const MACS: u64 = 40_000_000_000;
/// Smaller batches have no usable statistics of their own.
const SMALLEST_BATCH: usize = 8;
/// The largest factor to the trained standard deviation: beyond, a channel holds hardly more than errors.
const LARGEST_SCALE: f32 = 3.0;

/// A tensor in the float network and its counterpart in the quantized one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tap {
    pub float: ValueId,
    pub quantized: ValueId,
}

/// The values of both networks where the next segment starts.
pub(super) struct Streams<'a> {
    engine: &'a dyn Engine,
    norms: &'a [BatchNorm],
    chunk: usize,
    /// A multiple of the chunk: fewer samples have other statistics.
    samples: usize,
    /// The tensor that the segment starts from; none where it starts from the network's inputs.
    start: Option<String>,
    float: Vec<Tensor>,
    quantized: Vec<Tensor>,
}

impl<'a> Streams<'a> {
    /// Returns the streams at the inputs of `float`; `None` where its inputs do not share an axis of samples.
    ///
    /// # Errors
    /// When an input's shape is unknown.
    pub fn new(float: &Graph, segments: &[Segment], context: &CalibrationContext<'a>) -> Result<Option<Self>> {
        let ends = segments.iter().filter_map(|segment| float.find(segment.end.as_ref()?));
        let fed = float.fed_inputs();
        let largest = ends.chain(fed).map(|id| float.value(id).sample_len()).max().unwrap_or(1);
        let affordable = usize::try_from(MACS / total_macs(float).max(1)).unwrap_or(usize::MAX);
        let samples = affordable.clamp(SAMPLES[0], SAMPLES[1]).min((BYTES / (8 * largest.max(1))).max(SMALLEST_BATCH));
        let batch = float.fixed_batch();
        let inputs = context.inputs(float, samples.next_multiple_of(batch.unwrap_or(1).max(1)))?;
        let samples = Tensor::samples_of(&inputs);
        if samples == 0 || inputs.iter().any(|tensor| tensor.shape().first() != Some(&samples)) {
            return Ok(None);
        }
        let chunk = batch.unwrap_or(CHUNK).min(samples);
        Ok(Some(Self {
            engine: context.engine,
            norms: if chunk < SMALLEST_BATCH { &[] } else { context.norms },
            chunk,
            samples: samples / chunk * chunk,
            start: None,
            float: inputs.clone(),
            quantized: inputs,
        }))
    }

    /// Returns the number of runs for all samples.
    pub fn chunks(&self) -> usize {
        self.samples / self.chunk
    }

    /// Moves the start of both streams to the tensor called `end`.
    ///
    /// # Errors
    /// When the engine fails.
    pub fn advance(&mut self, end: &str, float: &Graph, quantized: &Graph) -> Result<()> {
        let (Some(a), Some(b)) = (float.find(end), quantized.find(end)) else { return Ok(()) };
        let mut parts = [Vec::new(), Vec::new()];
        self.run(float, quantized, &[Tap { float: a, quantized: b }], &mut |chunk| {
            parts.iter_mut().zip(&chunk[0]).for_each(|(parts, tensor)| parts.push(tensor.clone()));
            Ok(())
        })?;
        let joined = |parts: &[Tensor]| Tensor::joined(&parts.iter().collect::<Vec<_>>());
        (self.float, self.quantized) = (vec![joined(&parts[0])?], vec![joined(&parts[1])?]);
        self.start = Some(end.to_owned());
        Ok(())
    }

    /// Computes the taps in the float network and in the quantized one; `visit` receives the values of each tap in both,
    /// one chunk of samples after the other.
    ///
    /// # Errors
    /// When the engine fails, or `visit` does.
    pub fn run(
        &self,
        float: &Graph,
        quantized: &Graph,
        taps: &[Tap],
        visit: &mut dyn FnMut(&[[Tensor; 2]]) -> Result<()>,
    ) -> Result<()> {
        let ids = |pick: fn(&Tap) -> ValueId| taps.iter().map(pick).collect::<Vec<_>>();
        let mut float = self.part(float, ids(|tap| tap.float));
        let mut quantized = self.part(quantized, ids(|tap| tap.quantized));
        standardize(&mut float, &mut quantized, self.norms);
        for graph in [&mut float, &mut quantized] {
            graph.sort()?;
            graph.sweep();
        }
        let mut float_session = self.engine.load(&float, &SessionOptions::default())?;
        let mut quantized_session = self.engine.load(&quantized, &SessionOptions::default())?;
        for start in (0..self.samples).step_by(self.chunk) {
            let range = start..start + self.chunk;
            let rows = |inputs: &[Tensor]| inputs.iter().map(|t| t.rows(range.clone())).collect::<Result<Vec<_>>>();
            let mut of_float = float_session.run(&rows(&self.float)?)?;
            let affine = of_float.split_off(taps.len());
            let of_quantized = quantized_session.run(&[rows(&self.quantized)?, affine].concat())?;
            visit(&of_float.into_iter().zip(of_quantized).map(|(a, b)| [a, b]).collect::<Vec<_>>())?;
        }
        Ok(())
    }

    /// Returns the part of `graph` that computes `ends` from the start.
    fn part(&self, graph: &Graph, ends: Vec<ValueId>) -> Graph {
        let mut part = graph.clone();
        if let Some(start) = self.start.as_ref().and_then(|name| part.find(name)) {
            part.nodes.retain(|node| !node.outputs.contains(&Some(start)));
            part.inputs = vec![start];
        }
        part.outputs = ends;
        for id in part.outputs.clone() {
            part.value_mut(id).dtype.get_or_insert(DType::F32);
        }
        part.sweep();
        part
    }
}

/// Scales and shifts every normalized tensor that both graphs compute, in both alike, so that in `float` it has its
/// trained mean and standard deviation over the batch. The scales and shifts become outputs of `float` and inputs of
/// `quantized`.
fn standardize(float: &mut Graph, quantized: &mut Graph, norms: &[BatchNorm]) {
    for norm in norms {
        let pair = normalized(float, norm).zip(normalized(quantized, norm));
        let Some(((y, rank), (y_quantized, _))) = pair else { continue };
        let nodes = [float.nodes.len(), quantized.nodes.len()];
        let affine = scale_and_shift(float, y, rank, norm);
        replace(float, y, affine, nodes[0]);
        let mut dims = vec![Dim::Known(1); rank];
        dims[1] = Dim::Known(norm.beta.len());
        let inputs = affine.map(|id| {
            let input = quantized.add_value(float.name_of(id));
            let value = quantized.value_mut(input);
            (value.dtype, value.shape) = (Some(DType::F32), Some(dims.clone()));
            quantized.inputs.push(input);
            input
        });
        float.outputs.extend(affine);
        replace(quantized, y_quantized, inputs, nodes[1]);
    }
}

/// Adds the nodes for `std(trained) / std(y)` and `mean(trained) - mean(y) · scale`, per channel.
fn scale_and_shift(graph: &mut Graph, y: ValueId, rank: usize, norm: &BatchNorm) -> [ValueId; 2] {
    let ChannelStatistics { trained, beta, mean, std, .. } = ChannelStatistics::add(graph, y, rank, norm);
    let scale = push(graph, "Div", &[trained, std]);
    let most = graph.add_constant("most", Tensor::from_f32(&[], &[LARGEST_SCALE]));
    let scale = push(graph, "Min", &[scale, most]);
    let scaled = push(graph, "Mul", &[mean, scale]);
    [scale, push(graph, "Sub", &[beta, scaled])]
}

/// Makes the first `nodes` nodes, and the outputs, read `y · scale + shift` in place of `y`.
fn replace(graph: &mut Graph, y: ValueId, [scale, shift]: [ValueId; 2], nodes: usize) {
    let scaled = push(graph, "Mul", &[y, scale]);
    let standard = push(graph, "Add", &[scaled, shift]);
    replace_reads(graph, y, standard, nodes);
    graph.outputs.iter_mut().filter(|output| **output == y).for_each(|output| *output = standard);
}
