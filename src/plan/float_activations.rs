//! Activations that stay in floating point, so that only the weights of their layers are quantized.

use clap::ValueEnum;

use crate::ir::{Graph, Node, ValueId};
use crate::stats::{Guessed, output_bounds};

/// The user's choice for activations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Activations {
    /// Quantized, except those whose range depends on a guess about the inputs.
    #[default]
    Auto,
    /// All quantized.
    Quantized,
    /// Floating point: only weights are quantized.
    Float,
}

impl Activations {
    /// Returns the activations that stay float in a network with these `guessed` ranges.
    pub fn float(self, guessed: &Guessed) -> FloatActivations {
        match self {
            Self::Auto => FloatActivations::Guessed(guessed.clone()),
            Self::Quantized => FloatActivations::None,
            Self::Float => FloatActivations::All,
        }
    }
}

/// The activations that stay in floating point.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum FloatActivations {
    /// None.
    #[default]
    None,
    /// Those whose range is a guess.
    Guessed(Guessed),
    /// All.
    All,
}

impl FloatActivations {
    /// Returns why the tensor `id` is not quantized, if so.
    pub(super) fn why(&self, graph: &Graph, id: ValueId) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Guessed(guessed) => {
                let is_guess = guessed.tensors.contains(graph.name_of(id));
                is_guess.then_some("the range of its input depends on a guess about the model's inputs")
            }
            Self::All => Some("--activations float"),
        }
    }

    /// Returns the interval that the grid of the tensor `id`, the result of `maker`, must cover: the limits of a
    /// saturating operator, or the bounds of a tensor whose distribution is a guess.
    pub(super) fn reach(&self, graph: &Graph, maker: Option<&Node>, id: ValueId, bits: u32) -> Option<[f32; 2]> {
        maker.and_then(|node| output_bounds(graph, node, bits)).or_else(|| match self {
            Self::Guessed(guessed) => guessed.within.get(graph.name_of(id)).copied(),
            Self::None | Self::All => None,
        })
    }
}
