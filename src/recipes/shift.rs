//! The shift of a layer's mean output by quantization.

use crate::calibrate::Means;
use crate::error::Result;
use crate::ir::Graph;
use crate::layers::{Rows, shifted_bias};
use crate::quant::QuantizedTensor;
use crate::solution::Biases;

/// Returns the shift of each output's mean: `Ŵ E[Q(x)] - W E[x]`, with the means of each group; `before` selects the
/// mean before quantization.
pub(super) fn shift(rows: &Rows, tensor: &QuantizedTensor, means: &[&Means], before: fn(&Means) -> &[f32]) -> Vec<f64> {
    let width = rows.width();
    let value = |&byte: &u8, channel: usize| {
        let q = if tensor.grid.scheme.signed { i32::from(byte.cast_signed()) } else { i32::from(byte) };
        tensor.grid.dequantize(q, channel)
    };
    let dot = |w: &[f32], m: &[f32]| w.iter().zip(m).map(|(&w, &m)| f64::from(w) * f64::from(m)).sum::<f64>();
    let integers = rows.gather(&tensor.bytes);
    let pairs = integers.chunks(width).zip(rows.values.chunks(width)).enumerate();
    pairs
        .map(|(o, (integers, float))| {
            let channel = if tensor.grid.scale.len() > 1 { o } else { 0 };
            let quantized: Vec<f32> = integers.iter().map(|byte| value(byte, channel)).collect();
            let means = means[rows.group_of(o)];
            dot(&quantized, &means.behind) - dot(float, before(means))
        })
        .collect()
}

/// Returns the shift where only channel means are known: `(Ŵ - W) E[x]`, or zeros where they do not fit.
pub(super) fn mean_shift(rows: &Rows, tensor: &QuantizedTensor, means: &[f64]) -> Vec<f64> {
    if means.len() != 1 && means.len() != rows.input_channels() {
        return vec![0.0; rows.outputs];
    }
    let quantized = rows.gather(&tensor.dequantize());
    let error: Vec<f32> = quantized.iter().zip(&rows.values).map(|(q, w)| q - w).collect();
    rows.times(&error, means)
}

/// Puts the bias of node `index` minus `shift` into `biases`; returns whether it could be read.
pub(super) fn correct_bias(float: &Graph, index: usize, shift: &[f64], biases: &mut Biases) -> Result<bool> {
    let node = &float.nodes[index];
    let Some(bias) = shifted_bias(float, node, shift)? else { return Ok(false) };
    if let Some(output) = node.output(0).filter(|_| bias.iter().any(|&b| b != 0.0)) {
        biases.insert(float.name_of(output).to_owned(), bias);
    }
    Ok(true)
}
