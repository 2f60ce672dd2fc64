//! Pairs of layers whose common channels can be scaled without a change of the result: `second(f(first(x)))` with
//! `f(s·x) = s·f(x)` for positive `s`, channel by channel.

use crate::error::Result;
use crate::ir::{Graph, Node, Uses, ValueId};
use crate::plan::{Plan, is_layer};
use crate::shape::is_padded;
use crate::stats::{BatchNorm, clip_bounds};

use super::bias::read_bias;
use super::rows::Rows;

/// A link, or the reason for none.
pub type Found = std::result::Result<Link, String>;

/// Two layers and the operators between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Node index of the layer whose outputs are scaled.
    pub first: usize,
    /// Node index of their only reader.
    pub second: usize,
    /// The Clip to `0..=hi` between them, whose upper end scales with the channel.
    pub clip: Option<usize>,
    /// Whether a Relu or such a Clip directly follows the first.
    pub rectified: bool,
    /// Whether the second layer, or an average pool before it, pads with zeros.
    pub padded: bool,
    /// Input channels of the second per output channel of the first, above 1 after a Flatten.
    pub repeat: usize,
    /// The tensors from the first layer's output to the second layer's input.
    pub tensors: Vec<ValueId>,
}

impl Link {
    /// Returns those of `norms` that describe a tensor between the two layers.
    pub fn norms<'a>(&self, graph: &Graph, norms: &'a mut [BatchNorm]) -> impl Iterator<Item = &'a mut BatchNorm> {
        let names: Vec<String> = self.tensors.iter().map(|&id| graph.name_of(id).to_owned()).collect();
        norms.iter_mut().filter(move |norm| names.contains(&norm.output))
    }
}

/// Returns for every planned layer with a weight the link that begins at it, or the reason for none.
///
/// # Errors
/// When weights or biases cannot be read.
pub fn links(graph: &Graph, plan: &Plan) -> Result<Vec<(String, Found)>> {
    let uses = graph.uses();
    let mut found = Vec::new();
    for layer in plan.layers.iter().filter(|l| l.weight.is_some()) {
        let node = graph.find(&layer.output).and_then(|id| uses.producer(id));
        let link = match node {
            Some(first) => link_from(graph, plan, &uses, first)?,
            None => Err("the graph lacks it".to_owned()),
        };
        found.push((layer.name.clone(), link));
    }
    Ok(found)
}

fn link_from(graph: &Graph, plan: &Plan, uses: &Uses, first: usize) -> Result<Found> {
    let (link, channels) = match walk(graph, uses, first) {
        Ok(found) => found,
        Err(reason) => return Ok(Err(reason)),
    };
    for (index, whose) in [(first, "its"), (link.second, "the next layer's")] {
        let node = &graph.nodes[index];
        let planned = |id: ValueId| plan.layers.iter().any(|l| l.weight.is_some() && l.output == graph.name_of(id));
        if !node.output(0).is_some_and(planned) {
            return Ok(Err("the next layer is not quantized".to_owned()));
        }
        let alone = node.input(1).is_some_and(|id| uses.only_consumer(id).is_some());
        let Some(rows) = Rows::read(graph, node)?.filter(|_| alone) else {
            return Ok(Err(format!("{whose} weight is shared or of an unknown form")));
        };
        let fits = if index == first { rows.outputs } else { rows.input_channels() };
        if fits != if index == first { channels } else { channels * link.repeat } {
            return Ok(Err(format!("{whose} weight has {fits} channels, {channels} lie between the layers")));
        }
        if index == first && node.input(2).is_some() && read_bias(graph, node, rows.outputs)?.is_none() {
            return Ok(Err("its bias is shared or of an unknown form".to_owned()));
        }
    }
    Ok(Ok(link))
}

/// Follows the only reader of each tensor up to the next layer.
fn walk(graph: &Graph, uses: &Uses, first: usize) -> std::result::Result<(Link, usize), String> {
    let mut link =
        Link { first, second: first, clip: None, rectified: false, padded: false, repeat: 1, tensors: Vec::new() };
    let mut x = graph.nodes[first].output(0).ok_or("it has no output")?;
    let channel_axis = |id: ValueId| graph.value(id).shape.as_ref()?.get(1)?.known();
    let last_axis = |id: ValueId| graph.value(id).shape.as_ref()?.last()?.known();
    let is_matrix = graph.nodes[first].is("MatMul");
    let channels = if is_matrix { last_axis(x) } else { channel_axis(x) };
    let channels = channels.ok_or("the number of its output channels is not known")?;
    let mut at_first = true;
    loop {
        link.tensors.push(x);
        let reader = uses.only_consumer(x).ok_or_else(|| match uses.consumers(x).len() {
            _ if uses.is_output(x) => "its result is an output of the graph".to_owned(),
            n => format!("its result is read {n} times"),
        })?;
        let node = &graph.nodes[reader];
        if is_layer(node) {
            if node.input(0) != Some(x) {
                return Err("the next layer reads it as a second operand".to_owned());
            }
            // Channels are the last axis of what a MatMul reads and makes, and the second axis elsewhere.
            let rank = graph.value(x).shape.as_ref().map(Vec::len);
            if is_matrix != node.is("MatMul") && rank != Some(2) {
                return Err("the next layer adds up over another axis".to_owned());
            }
            link.second = reader;
            link.padded |= is_padded(node) || node.is("ConvTranspose");
            return Ok((link, channels));
        }
        let y = node.output(0).ok_or("a node without output follows")?;
        match homogeneous(graph, node, is_matrix) {
            Some(Homogeneity::Plain) => {}
            Some(Homogeneity::Rectifier { capped }) => {
                link.rectified |= at_first;
                if capped {
                    let known = if is_matrix { last_axis(y) } else { channel_axis(y) };
                    link.clip = match link.clip {
                        None if known.is_some() => Some(reader),
                        None => return Err("a Clip of unknown size follows".to_owned()),
                        Some(_) => return Err("two Clips follow".to_owned()),
                    };
                }
            }
            Some(Homogeneity::Pad) => link.padded = true,
            Some(Homogeneity::Flatten) => {
                let columns = channel_axis(y).filter(|&n| n % channels == 0 && n > 0);
                link.repeat = columns.ok_or("a Flatten of unknown size follows")? / channels;
            }
            None => return Err(format!("{} does not scale with its input", node.op_type)),
        }
        (x, at_first) = (y, false);
    }
}

enum Homogeneity {
    Plain,
    Rectifier { capped: bool },
    Pad,
    Flatten,
}

fn homogeneous(graph: &Graph, node: &Node, is_matrix: bool) -> Option<Homogeneity> {
    if !node.domain.is_empty() || node.outputs.iter().flatten().count() != 1 {
        return None;
    }
    let constant = |i: usize| graph.constant_of(node.input(i)?)?.to_f32().ok();
    match node.op_type.as_str() {
        "Relu" => Some(Homogeneity::Rectifier { capped: false }),
        "LeakyRelu" | "Identity" => Some(Homogeneity::Plain),
        "PRelu" => constant(1).map(|_| Homogeneity::Plain),
        "Clip" => {
            let [lo, hi] = clip_bounds(graph, node)?;
            (lo == 0.0 && hi > 0.0).then_some(Homogeneity::Rectifier { capped: hi < f32::MAX })
        }
        _ if is_matrix => None,
        "AveragePool" if counts_padding(node) => Some(Homogeneity::Pad),
        "MaxPool" | "AveragePool" | "GlobalAveragePool" | "GlobalMaxPool" => Some(Homogeneity::Plain),
        "Pad" => {
            let pads = match node.input(1) {
                Some(id) => graph.constant_of(id)?.to_i64().ok()?,
                None => node.ints("pads")?.to_vec(),
            };
            let rank = pads.len() / 2;
            let spatial = rank > 2 && [0, 1, rank, rank + 1].iter().all(|&i| pads[i] == 0) && node.input(3).is_none();
            let zero = node.input(2).is_none_or(|_| constant(2).is_some_and(|v| v.iter().all(|&v| v == 0.0)));
            let constant = node.attrs.string("mode").unwrap_or("constant") == "constant";
            (spatial && zero && constant && node.attrs.float("value", 0.0) == 0.0).then_some(Homogeneity::Pad)
        }
        "Flatten" if node.attrs.int("axis", 1) == 1 => Some(Homogeneity::Flatten),
        "Reshape" => {
            let rank = |i: Option<ValueId>| graph.value(i?).shape.as_ref().map(Vec::len);
            let shape = graph.constant_of(node.input(1)?)?.to_i64().ok()?;
            let batch_stays = matches!(shape[..], [0 | -1, _]) || first_axis(graph, node.input(0)) == Some(shape[0]);
            // A -1 before the columns may take in positions too.
            let whole = elements_of_one(graph, node.input(0)?)? == elements_of_one(graph, node.output(0)?)?;
            let flattens = rank(node.output(0)) == Some(2) && rank(node.input(0))? > 2;
            (flattens && batch_stays && whole).then_some(Homogeneity::Flatten)
        }
        _ => None,
    }
}

/// Returns whether an average pool includes padding in its means.
fn counts_padding(node: &Node) -> bool {
    let padded = is_padded(node) || node.attrs.int("ceil_mode", 0) != 0;
    padded && node.attrs.int("count_include_pad", 0) != 0
}

/// Returns the elements of one sample; `None` where unknown.
fn elements_of_one(graph: &Graph, id: ValueId) -> Option<usize> {
    let mut sizes = graph.value(id).shape.as_ref()?.get(1..)?.iter();
    sizes.try_fold(1usize, |elements, dim| elements.checked_mul(dim.known()?))
}

fn first_axis(graph: &Graph, id: Option<ValueId>) -> Option<i64> {
    i64::try_from(graph.value(id?).shape.as_ref()?.first()?.known()?).ok()
}
