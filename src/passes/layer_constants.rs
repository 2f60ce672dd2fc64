//! The weight and bias of a layer while a pass scales and shifts its channels.

use super::readers::Readers;
use crate::error::Result;
use crate::ir::{Attrs, Graph, Node, Tensor, ValueId};
use crate::shape::is_padded;

/// The constants of a Conv, ConvTranspose, Gemm or MatMul.
pub(super) struct LayerConstants {
    weight_id: ValueId,
    weight: Tensor,
    /// The weight's elements, once a channel was scaled.
    scaled: Option<Vec<f32>>,
    bias: Option<Vec<f32>>,
    bias_name: Option<String>,
    channels: Channels,
    padded: bool,
    /// Whether the layer can have a bias: a MatMul of more than two axes cannot.
    takes_bias: bool,
}

/// The channels that elements of a weight belong to.
struct Channels {
    outputs: usize,
    /// Returns the output channel and the input channel of element `i`.
    locate: Box<dyn Fn(usize) -> (usize, usize)>,
}

impl Channels {
    /// `None` where the node is not a layer, or computes more than a product and a sum.
    fn of(node: &Node, shape: &[usize]) -> Option<Self> {
        let group = usize::try_from(node.attrs.int("group", 1)).ok().filter(|&group| group > 0)?;
        let &[first, second, ..] = shape else { return None };
        let inner: usize = shape[2..].iter().product();
        let by_kernel = move |i: usize| (i / (second * inner), i / inner % second);
        Some(match node.op_type.as_str() {
            "Conv" => {
                let per_group = (first / group).max(1);
                let locate = move |(output, input): (usize, usize)| (output, output / per_group * second + input);
                Self { outputs: first, locate: Box::new(move |i| locate(by_kernel(i))) }
            }
            "ConvTranspose" => {
                let per_group = (first / group).max(1);
                let locate = move |(input, output): (usize, usize)| (input / per_group * second + output, input);
                Self { outputs: second * group, locate: Box::new(move |i| locate(by_kernel(i))) }
            }
            "Gemm" => {
                let plain = node.attrs.float("alpha", 1.0) == 1.0 && node.attrs.float("beta", 1.0) == 1.0;
                if !plain || node.attrs.int("transA", 0) != 0 || shape.len() != 2 {
                    return None;
                }
                match node.attrs.int("transB", 0) {
                    0 => Self { outputs: second, locate: Box::new(move |i| (i % second, i / second)) },
                    _ => Self { outputs: first, locate: Box::new(move |i| (i / second, i % second)) },
                }
            }
            "MatMul" => {
                let &[.., inputs, outputs] = shape else { return None };
                Self { outputs, locate: Box::new(move |i| (i % outputs, i / outputs % inputs)) }
            }
            _ => return None,
        })
    }
}

impl LayerConstants {
    /// Returns the constants of node `index`; `None` where it is not a layer or cannot be folded.
    ///
    /// # Errors
    /// When a bias is not floating-point.
    pub fn read(graph: &Graph, index: usize) -> Result<Option<Self>> {
        let node = &graph.nodes[index];
        let (Some(weight_id), bias_id) = (node.input(1).filter(|_| node.domain.is_empty()), node.input(2)) else {
            return Ok(None);
        };
        let Some(weight) = graph.constant_of(weight_id).filter(|w| !w.is_empty()) else { return Ok(None) };
        let Some(channels) = Channels::of(node, weight.shape()) else { return Ok(None) };
        let bias = match bias_id.map(|id| graph.constant_of(id)) {
            None => None,
            // A column of a Gemm's bias holds one value per sample.
            Some(Some(tensor)) if tensor.shape().last().is_none_or(|&last| last == tensor.len()) => {
                match tensor.to_f32()? {
                    values if values.len() == channels.outputs => Some(values),
                    values if values.len() == 1 => Some(vec![values[0]; channels.outputs]),
                    _ => return Ok(None),
                }
            }
            Some(_) => return Ok(None),
        };
        let is_matrix = |id: ValueId| graph.value(id).shape.as_ref().is_some_and(|shape| shape.len() == 2);
        Ok(Some(Self {
            weight_id,
            weight: weight.clone(),
            scaled: None,
            bias,
            bias_name: bias_id.map(|id| graph.name_of(id).to_owned()),
            channels,
            padded: is_padded(node) || node.is("ConvTranspose"),
            takes_bias: !node.is("MatMul") || weight.shape().len() == 2 && node.input(0).is_some_and(is_matrix),
        }))
    }

    /// Returns the number of output channels.
    pub fn outputs(&self) -> usize {
        self.channels.outputs
    }

    /// Returns whether the layer can have a bias.
    pub fn takes_bias(&self) -> bool {
        self.takes_bias
    }

    /// Returns the constants of `scale · layer(x) + shift`, one value per output channel; `None` where the layer cannot
    /// absorb them, or a number would exceed float32.
    pub fn scale_outputs(self, scale: &[f64], shift: &[f64]) -> Option<Self> {
        let mut layer = self.scale_weight(scale).filter(|layer| layer.takes_bias)?;
        let bias = layer.bias.take().unwrap_or_else(|| vec![0.0; scale.len()]);
        let folded = bias.iter().zip(scale).zip(shift).map(|((b, s), t)| narrow(f64::from(*b) * s + t));
        layer.bias = Some(folded.collect::<Option<_>>()?);
        Some(layer)
    }

    /// Returns the constants with the weight of each output channel times `scale`, the bias as it is; otherwise as
    /// [`LayerConstants::scale_outputs`].
    pub fn scale_weight(mut self, scale: &[f64]) -> Option<Self> {
        if scale.len() != self.channels.outputs {
            return None;
        }
        if scale.iter().any(|&s| s != 1.0) {
            let values = self.values()?;
            let folded = values.iter().enumerate().map(|(i, w)| narrow(f64::from(*w) * scale[self.output_of(i)]));
            self.scaled = Some(folded.collect::<Option<_>>()?);
        }
        Some(self)
    }

    /// Returns the constants of `layer(scale · x + shift)`, one value per input channel; otherwise as
    /// [`LayerConstants::scale_outputs`]. A shift cannot pass zero padding.
    pub fn scale_inputs(mut self, scale: &[f64], shift: &[f64]) -> Option<Self> {
        let mut values = self.values()?;
        let locate = &self.channels.locate;
        let inputs = (0..values.len()).map(|i| locate(i).1 + 1).max().unwrap_or(0);
        if inputs != scale.len() || !self.takes_bias || self.padded && shift.iter().any(|&t| t != 0.0) {
            return None;
        }
        let mut added = vec![0.0f64; self.channels.outputs];
        for (i, w) in values.iter_mut().enumerate() {
            let (output, input) = locate(i);
            added[output] += f64::from(*w) * shift[input];
            *w = narrow(f64::from(*w) * scale[input])?;
        }
        let bias = self.bias.take().unwrap_or_else(|| vec![0.0; added.len()]);
        let folded = bias.iter().zip(added).map(|(b, a)| narrow(f64::from(*b) + a));
        self.bias = Some(folded.collect::<Option<_>>()?);
        self.scaled = Some(values);
        Some(self)
    }

    /// Writes changed constants back to node `index`, from which they were read. A MatMul that gets a bias becomes a
    /// Gemm.
    ///
    /// # Errors
    /// When the type of the weight cannot hold the numbers.
    pub fn write(self, graph: &mut Graph, readers: &mut Readers, index: usize) -> Result<()> {
        let dtype = self.weight.dtype();
        let name = graph.name_of(self.weight_id).to_owned();
        if let Some(values) = self.scaled {
            let weight = graph.add_constant(&name, Tensor::from_floats(dtype, self.weight.shape(), &values)?);
            replace_input(graph, readers, index, 1, weight);
        }
        let Some(bias) = self.bias else { return Ok(()) };
        let bias_name = self.bias_name.unwrap_or_else(|| format!("{name}_bias"));
        let bias = graph.add_constant(&bias_name, Tensor::from_floats(dtype, &[bias.len()], &bias)?);
        replace_input(graph, readers, index, 2, bias);
        let node = &mut graph.nodes[index];
        if node.is("MatMul") {
            (node.op_type, node.attrs) = ("Gemm".to_owned(), Attrs::default());
        }
        Ok(())
    }

    fn values(&self) -> Option<Vec<f32>> {
        self.weight.to_f32().ok()
    }

    fn output_of(&self, i: usize) -> usize {
        (self.channels.locate)(i).0
    }
}

/// Replaces input `slot` of node `node` with the constant `new`, which takes over the name of the old input where
/// nothing else reads that.
pub(super) fn replace_input(graph: &mut Graph, readers: &mut Readers, node: usize, slot: usize, new: ValueId) {
    readers.add(new);
    let inputs = &mut graph.nodes[node].inputs;
    inputs.resize(inputs.len().max(slot + 1), None);
    let Some(old) = inputs[slot].replace(new) else { return };
    readers.remove(old);
    if readers.is_unread(old) {
        graph.swap_names(old, new);
    }
}

/// Returns the nearest float32; `None` beyond its range.
pub(super) fn narrow(value: f64) -> Option<f32> {
    let narrowed = value as f32;
    narrowed.is_finite().then_some(narrowed)
}
