//! Folds inference-mode BatchNormalization into the Conv, ConvTranspose or Gemm before it, or into the one behind it.
//!
//! Before: `y = BatchNormalization(Conv(x, w, b), gamma, beta, mean, var)`.
//! After: `y = Conv(x, s·w, s·(b - mean) + beta)` with `s = gamma / sqrt(var + epsilon)`.
//! Behind: `Conv(BatchNormalization(x), w, b)` becomes `Conv(x, w·s, b + Σ w·t)` with `t = beta - s·mean`.
//!
//! Refused: statistics or weights that are no constants, training mode, a convolution whose result (or a
//! normalisation whose result) has another reader or is a graph output, and, behind, a padded convolution with
//! `t ≠ 0`: padding is zero in the normalised tensor and would not be in the folded one.

use crate::error::Result;
use crate::ir::{Graph, Node, Tensor, Uses, ValueId};
use crate::stats::batch_norm_of;

/// Folds what can be folded and returns how many nodes went away.
///
/// # Errors
/// When weights are not floating-point.
pub fn fold_batch_norm(graph: &mut Graph) -> Result<usize> {
    let mut folded = 0;
    while fold_one(graph)? {
        folded += 1;
    }
    graph.sweep();
    Ok(folded)
}

fn fold_one(graph: &mut Graph) -> Result<bool> {
    let uses = graph.uses();
    for i in 0..graph.nodes.len() {
        let Some(norm) = batch_norm_of(graph, &graph.nodes[i]) else { continue };
        let (scale, shift) = norm.affine();
        if let Some(layer) = layer_before(graph, &uses, i)
            && let Some(folded) = Layer::read(graph, layer)?.and_then(|l| l.scale_outputs(&scale, &shift))
        {
            folded.write(graph, layer)?;
            graph.nodes[layer].outputs = graph.nodes[i].outputs.clone();
            graph.nodes.remove(i);
            return Ok(true);
        }
        if let Some(layer) = layer_behind(graph, &uses, i)
            && let Some(folded) = Layer::read(graph, layer)?.and_then(|l| l.scale_inputs(&scale, &shift))
        {
            folded.write(graph, layer)?;
            graph.nodes[layer].inputs[0] = graph.nodes[i].input(0);
            graph.nodes.remove(i);
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_layer(node: &Node) -> bool {
    node.is("Conv") || node.is("ConvTranspose") || node.is("Gemm")
}

fn layer_before(graph: &Graph, uses: &Uses, norm: usize) -> Option<usize> {
    let x = graph.nodes[norm].input(0)?;
    let layer = uses.producer(x).filter(|&p| is_layer(&graph.nodes[p]))?;
    uses.only_consumer(x).is_some().then_some(layer)
}

fn layer_behind(graph: &Graph, uses: &Uses, norm: usize) -> Option<usize> {
    let y = graph.nodes[norm].output(0)?;
    let layer = uses.only_consumer(y).filter(|&c| is_layer(&graph.nodes[c]))?;
    (graph.nodes[layer].input(0) == Some(y)).then_some(layer)
}

/// The constants of a weighted node, with the weight seen as `[outer, mid, inner]`.
struct Layer {
    weight_id: ValueId,
    weight: Tensor,
    values: Vec<f32>,
    bias: Option<Vec<f32>>,
    bias_name: Option<String>,
    outputs: usize,
    /// Which output channel and which input channel element `i` of the weight belongs to.
    channels: Box<dyn Fn(usize) -> (usize, usize)>,
    padded: bool,
}

impl Layer {
    /// `None` where the node is of a form that is not folded.
    fn read(graph: &Graph, index: usize) -> Result<Option<Self>> {
        let node = &graph.nodes[index];
        let (Some(weight_id), bias_id) = (node.input(1), node.input(2)) else { return Ok(None) };
        let Some(weight) = graph.constant_of(weight_id) else { return Ok(None) };
        let bias = match bias_id {
            None => None,
            Some(id) => match graph.constant_of(id) {
                // A column of a Gemm's bias holds one value per sample.
                Some(tensor) if tensor.shape().last().is_none_or(|&last| last == tensor.len()) => {
                    Some(tensor.to_f32()?)
                }
                _ => return Ok(None),
            },
        };
        let shape = weight.shape().to_vec();
        let group = usize::try_from(node.attrs.int("group", 1)).unwrap_or(0);
        if shape.len() < 2 || group == 0 || weight.is_empty() {
            return Ok(None);
        }
        let inner: usize = shape[2..].iter().product();
        let (first, second) = (shape[0], shape[1]);
        type Channels = Box<dyn Fn(usize) -> (usize, usize)>;
        let (outputs, channels): (usize, Channels) = match node.op_type.as_str() {
            "Conv" => {
                let per_group = first / group;
                let locate = move |i: usize| (i / (second * inner), i / inner % second);
                (first, Box::new(move |i| (locate(i).0, locate(i).0 / per_group.max(1) * second + locate(i).1)))
            }
            "ConvTranspose" => {
                let inputs_per_group = first / group;
                let locate = move |i: usize| (i / (second * inner), i / inner % second);
                let channels = move |i: usize| {
                    let (input, output) = locate(i);
                    (input / inputs_per_group.max(1) * second + output, input)
                };
                (second * group, Box::new(channels))
            }
            _ => {
                let plain = node.attrs.int("transA", 0) == 0
                    && node.attrs.float("alpha", 1.0) == 1.0
                    && node.attrs.float("beta", 1.0) == 1.0;
                if !plain {
                    return Ok(None);
                }
                let transposed = node.attrs.int("transB", 0) != 0;
                let channels =
                    move |i: usize| if transposed { (i / second, i % second) } else { (i % second, i / second) };
                (if transposed { first } else { second }, Box::new(channels))
            }
        };
        let bias = match bias {
            Some(b) if b.len() == outputs => Some(b),
            Some(b) if b.len() == 1 => Some(vec![b[0]; outputs]),
            Some(_) => return Ok(None),
            None => None,
        };
        let auto_pad = node.attrs.string("auto_pad").unwrap_or("NOTSET");
        let padded =
            node.ints("pads").is_some_and(|p| p.iter().any(|&v| v != 0)) || !matches!(auto_pad, "NOTSET" | "VALID");
        Ok(Some(Self {
            weight_id,
            values: weight.to_f32()?,
            weight: weight.clone(),
            bias,
            bias_name: bias_id.map(|id| graph.name_of(id).to_owned()),
            outputs,
            channels,
            padded: padded || node.is("ConvTranspose"),
        }))
    }

    fn scale_outputs(mut self, scale: &[f64], shift: &[f64]) -> Option<Self> {
        if scale.len() != self.outputs {
            return None;
        }
        for (i, w) in self.values.iter_mut().enumerate() {
            *w = narrow(f64::from(*w) * scale[(self.channels)(i).0]);
        }
        let bias = self.bias.take().unwrap_or_else(|| vec![0.0; self.outputs]);
        let folded = bias.iter().zip(scale).zip(shift).map(|((b, s), t)| narrow(f64::from(*b) * s + t));
        self.bias = Some(folded.collect());
        Some(self)
    }

    fn scale_inputs(mut self, scale: &[f64], shift: &[f64]) -> Option<Self> {
        let inputs = (0..self.values.len()).map(|i| (self.channels)(i).1 + 1).max().unwrap_or(0);
        if inputs != scale.len() || self.padded && shift.iter().any(|&t| t != 0.0) {
            return None;
        }
        let mut added = vec![0.0f64; self.outputs];
        for (i, w) in self.values.iter_mut().enumerate() {
            let (output, input) = (self.channels)(i);
            added[output] += f64::from(*w) * shift[input];
            *w = narrow(f64::from(*w) * scale[input]);
        }
        let bias = self.bias.take().unwrap_or_else(|| vec![0.0; self.outputs]);
        self.bias = Some(bias.iter().zip(added).map(|(b, a)| narrow(f64::from(*b) + a)).collect());
        Some(self)
    }

    fn write(self, graph: &mut Graph, index: usize) -> Result<()> {
        let name = graph.name_of(self.weight_id).to_owned();
        let weight = Tensor::from_floats(self.weight.dtype(), self.weight.shape(), &self.values)?;
        let weight_id = graph.add_constant(&name, weight);
        let bias_name = self.bias_name.unwrap_or_else(|| format!("{name}_bias"));
        let bias = self.bias.expect("folding gives every layer a bias");
        let bias = Tensor::from_floats(self.weight.dtype(), &[bias.len()], &bias)?;
        let bias_id = graph.add_constant(&bias_name, bias);
        let node = &mut graph.nodes[index];
        node.inputs.resize(3, None);
        let old = [node.inputs[1], node.inputs[2]];
        node.inputs[1] = Some(weight_id);
        node.inputs[2] = Some(bias_id);
        let uses = graph.uses();
        for (old, new) in old.into_iter().zip([weight_id, bias_id]) {
            if let Some(old) = old.filter(|&old| uses.consumers(old).is_empty() && !uses.is_output(old)) {
                graph.swap_names(old, new);
            }
        }
        Ok(())
    }
}

#[allow(clippy::cast_possible_truncation)]
fn narrow(value: f64) -> f32 {
    value as f32
}
