//! Maps `scale·y + shift` per channel, from Add, Sum, Sub, Mul and Div with constants after a layer.

use crate::ir::{Dim, Graph, Node, Tensor, Uses, ValueId};

/// One scale and one shift per channel.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ChannelMap {
    pub scale: Vec<f64>,
    pub shift: Vec<f64>,
}

impl ChannelMap {
    /// Returns the identity map.
    pub fn identity(channels: usize) -> Self {
        Self { scale: vec![1.0; channels], shift: vec![0.0; channels] }
    }

    /// Returns whether all scales are 1.
    pub fn only_shifts(&self) -> bool {
        self.scale.iter().all(|&s| s == 1.0)
    }

    /// Returns the map that applies `self`, then `next`.
    fn then(&self, next: &Self) -> Self {
        let scales = || self.scale.iter().zip(&next.scale);
        Self {
            scale: scales().map(|(a, b)| a * b).collect(),
            shift: self.shift.iter().zip(&next.scale).zip(&next.shift).map(|((t, s), u)| t * s + u).collect(),
        }
    }
}

/// The position of the channels in a tensor.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// The number of channels.
    pub channels: usize,
    /// Their axis.
    axis: usize,
    /// The sizes of all axes; `None` where unknown.
    sizes: Vec<Option<usize>>,
}

impl Layout {
    /// Returns the layout of the output of `node`; `weight_rank` is that of its weight, if it has one. `None` where the
    /// channel axis is unknown.
    pub fn of(graph: &Graph, node: &Node, channels: usize, weight_rank: Option<usize>) -> Option<Self> {
        let declared = graph.value(node.output(0)?).shape.as_ref();
        let sizes: Vec<Option<usize>> = match declared {
            Some(shape) => shape.iter().map(Dim::known).collect(),
            // A product has the columns of its weight, and perhaps nothing else.
            None if node.is("MatMul") => vec![None],
            None => vec![None; weight_rank?],
        };
        let axis = if node.is("MatMul") { sizes.len().checked_sub(1)? } else { 1 };
        let fits = sizes.get(axis)?.is_none_or(|size| size == channels);
        fits.then_some(Self { channels, axis, sizes })
    }

    /// Returns the map of `node` on the channels of `y`; `None` where it computes anything else, or broadcasts `y`.
    pub fn step(&self, graph: &Graph, node: &Node, y: ValueId) -> Option<ChannelMap> {
        let [Some(a), Some(b)] = node.inputs[..] else { return None };
        let (constant, is_first) = match (a == y, b == y) {
            (true, false) => (b, false),
            (false, true) => (a, true),
            _ => return None,
        };
        if !node.domain.is_empty() || node.attrs.get("broadcast").is_some() {
            return None;
        }
        let map: fn(f64) -> (f64, f64) = match (node.op_type.as_str(), is_first) {
            ("Add" | "Sum", _) => |k| (1.0, k),
            ("Sub", false) => |k| (1.0, -k),
            ("Sub", true) => |k| (-1.0, k),
            ("Mul", _) => |k| (k, 0.0),
            ("Div", false) => |k| (k.recip(), 0.0),
            _ => return None,
        };
        let (scale, shift) = self.per_channel(graph.constant_of(constant)?)?.into_iter().map(map).unzip();
        Some(ChannelMap { scale, shift })
    }

    /// Returns the value that a constant has in each channel; `None` where it has more than one there, or would widen
    /// what it is combined with.
    fn per_channel(&self, constant: &Tensor) -> Option<Vec<f64>> {
        let dims = constant.shape();
        let missing = self.sizes.len().checked_sub(dims.len())?;
        let fits = |(axis, &dim): (usize, &usize)| match axis + missing {
            axis if axis == self.axis => dim == 1 || dim == self.channels,
            axis => dim == 1 || self.sizes[axis] == Some(dim),
        };
        if constant.is_empty() || !dims.iter().enumerate().all(fits) {
            return None;
        }
        let values = constant.to_f32().ok()?;
        let position = self.axis.checked_sub(missing).filter(|&position| dims[position] == self.channels);
        let channel = |i: usize| match position {
            Some(position) => i / dims[position + 1..].iter().product::<usize>() % self.channels,
            None => 0,
        };
        let mut found: Vec<Option<f32>> = vec![None; if position.is_some() { self.channels } else { 1 }];
        for (i, &value) in values.iter().enumerate() {
            if *found[channel(i)].get_or_insert(value) != value {
                return None;
            }
        }
        let found: Vec<f64> = found.into_iter().flatten().map(f64::from).collect();
        Some(if found.len() == 1 { vec![found[0]; self.channels] } else { found })
    }
}

/// The chain of nodes after a layer that map its channels.
pub(super) struct Chain {
    /// Their combined map.
    pub map: ChannelMap,
    /// Their indices.
    pub nodes: Vec<usize>,
}

impl Chain {
    /// Returns the longest chain after node `index`, if any.
    pub fn behind(graph: &Graph, uses: &Uses, index: usize, layout: &Layout) -> Option<Self> {
        let mut chain = Self { map: ChannelMap::identity(layout.channels), nodes: Vec::new() };
        let mut y = graph.nodes[index].output(0)?;
        while let Some(reader) = uses.only_consumer(y)
            && let Some(step) = layout.step(graph, &graph.nodes[reader], y)
        {
            chain.map = chain.map.then(&step);
            chain.nodes.push(reader);
            y = graph.nodes[reader].output(0)?;
        }
        (!chain.nodes.is_empty()).then_some(chain)
    }
}
