//! The teacher of image synthesis: its target statistics, logits and features.

use super::input_spec::InputSpec;
use crate::autodiff::Reach;
use crate::error::{Error, Result};
use crate::expr::OPSET;
use crate::ir::{Attrs, DType, Graph, Node, ValueId};
use crate::plan::{is_layer, total_macs};
use crate::stats::BatchNorm;
use crate::train::losses::ChannelNormal;
use crate::train::targets;
use crate::{onnx, shape};

/// A float network without batch normalization, cut to the tensors that the loss needs.
#[derive(Clone, Debug)]
pub struct SynthesisTeacher {
    /// The graph, at the opset of expressions, with a float image input.
    pub graph: Graph,
    /// The input to synthesize.
    pub spec: InputSpec,
    /// Multiply-accumulates per sample.
    pub macs: u64,
    /// The batch-normalization statistics of tensors that gradients reach.
    pub normals: Vec<ChannelNormal>,
    /// Logits before a trailing Softmax, and the number of classes.
    pub logits: Option<(String, usize)>,
    /// The input of the layer that computes the logits.
    pub features: Option<String>,
    /// The inputs of strided convolutions, each with its own Identity.
    pub swings: Vec<Swing>,
    /// Operators without gradient: statistics behind them are unused.
    pub blocked: Vec<String>,
}

/// A tensor whose only consumer is a strided convolution.
#[derive(Clone, Debug)]
pub struct Swing {
    /// The tensor.
    pub tensor: String,
    /// Height and width.
    pub size: [usize; 2],
}

impl SynthesisTeacher {
    /// Returns the teacher for `float`, whose batch normalization was folded and had the statistics `norms`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for inputs that cannot be synthesized, and where no gradient reaches any statistics or
    /// logits.
    pub fn new(float: &Graph, norms: &[BatchNorm]) -> Result<Self> {
        let mut graph = float.clone();
        onnx::upgrade(&mut graph, OPSET)?;
        shape::infer(&mut graph)?;
        let (spec, macs) = (InputSpec::of(&graph)?, total_macs(&graph));
        if spec.is_bytes {
            as_floats(&mut graph, &spec)?;
        }
        let reach = Reach::of(&graph, graph.find(&spec.name).as_slice(), |_| false);
        let blocked: Vec<String> = reach.blocked.iter().map(|&at| graph.describe(&graph.nodes[at])).collect();
        let normals = norms.iter().map(ChannelNormal::of).filter(|normal| {
            let found = graph.find(&normal.tensor).filter(|id| reach.passes(*id));
            let channels = found.and_then(|id| graph.value(id).shape.as_ref()?.get(1)?.known());
            channels == Some(normal.mean.len())
        });
        let normals: Vec<ChannelNormal> = normals.collect();
        let logits = logits(&graph).filter(|(id, _)| reach.passes(*id));
        let features = logits.and_then(|(id, _)| features(&graph, id)).map(|id| graph.name_of(id).to_owned());
        let logits = logits.map(|(id, classes)| (graph.name_of(id).to_owned(), classes));
        if normals.is_empty() && logits.is_none() {
            let why =
                blocked.first().map_or("it has no statistics of batch normalisation and no logits".to_owned(), |op| {
                    format!("no gradient passes {op}")
                });
            let message = format!("has nothing to synthesize inputs from: {why}; give statistics with --bn-stats");
            return Err(Error::unsupported("model", message));
        }
        let names = normals.iter().map(|normal| normal.tensor.as_str());
        let answers = targets(&graph).tensors;
        let answers = answers.iter().map(|target| target.tensor.as_str());
        let outputs: Vec<&str> =
            names.chain(logits.iter().map(|s| s.0.as_str())).chain(features.as_deref()).chain(answers).collect();
        let mut made = Self {
            spec,
            macs,
            normals: normals.clone(),
            logits: logits.clone(),
            features: features.clone(),
            swings: Vec::new(),
            blocked,
            graph: graph.clone(),
        };
        made.graph.cut(&outputs);
        made.place_swings()?;
        Ok(made)
    }

    /// Inserts an Identity before every strided convolution.
    fn place_swings(&mut self) -> Result<()> {
        let graph = &mut self.graph;
        let is_strided = |node: &Node| {
            node.is("Conv") && node.ints("strides").is_some_and(|s| s.len() == 2 && s.iter().any(|&s| s > 1))
        };
        let strided: Vec<usize> = (0..graph.nodes.len()).filter(|&i| is_strided(&graph.nodes[i])).collect();
        for at in strided {
            let Some(x) = graph.nodes[at].input(0) else { continue };
            let dims = graph.value(x).shape.clone().unwrap_or_default();
            let size = |axis: usize| dims.get(axis).and_then(|dim| dim.known());
            let (Some(height), Some(width)) = (size(2), size(3)) else { continue };
            let y = graph.add_value(&format!("{}_swung", graph.name_of(x)));
            (graph.value_mut(y).dtype, graph.value_mut(y).shape) = (graph.value(x).dtype, Some(dims));
            graph.nodes[at].inputs[0] = Some(y);
            graph.nodes.push(Node::new("Identity", [x], [y], Attrs::default()));
            self.swings.push(Swing { tensor: graph.name_of(y).to_owned(), size: [height, width] });
        }
        graph.sort()
    }
}

/// Changes a byte input that a Cast converts to a float input.
fn as_floats(graph: &mut Graph, spec: &InputSpec) -> Result<()> {
    let refused =
        || Error::unsupported(format!("input \"{}\"", spec.name), "bytes are read by another operator than Cast");
    let input = graph.find(&spec.name).ok_or_else(refused)?;
    graph.value_mut(input).dtype = Some(DType::F32);
    for node in graph.nodes.iter_mut().filter(|node| node.inputs.contains(&Some(input))) {
        if !node.is("Cast") {
            return Err(refused());
        }
    }
    shape::infer(graph)
}

/// Returns the logits of a classifier.
fn logits(graph: &Graph) -> Option<(ValueId, usize)> {
    let target = targets(graph).tensors.into_iter().find(|target| target.is_logits)?;
    let id = graph.find(&target.tensor)?;
    Some((id, graph.value(id).shape.as_ref()?.get(1)?.known()?))
}

/// Returns the input of the layer that computes `logits`.
fn features(graph: &Graph, logits: ValueId) -> Option<ValueId> {
    let mut at = logits;
    loop {
        let node = graph.maker(graph.name_of(at))?;
        let input = node.input(0)?;
        if is_layer(node) {
            return Some(input);
        }
        at = input;
    }
}
