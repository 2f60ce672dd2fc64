//! Activations that stay in floating point, so that layers which read them have quantized weights alone.

use clap::ValueEnum;

use crate::ir::{Graph, Node, ValueId};
use crate::stats::{Guessed, output_bounds};

/// What the user says of activations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Activations {
    /// On grids, but for those whose range rests on a guess of what the model is fed.
    #[default]
    Auto,
    /// On grids, whatever their ranges rest on.
    Quantized,
    /// In floating point: weights alone are quantized.
    Float,
}

impl Activations {
    /// Returns which of them stay float in a network of which this is `guessed`.
    pub fn float(self, guessed: &Guessed) -> FloatActivations {
        match self {
            Self::Auto => FloatActivations::Guessed(guessed.clone()),
            Self::Quantized => FloatActivations::None,
            Self::Float => FloatActivations::All,
        }
    }
}

/// Which activations stay in floating point.
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
    /// Returns why the tensor `id` is on no grid, where it is not to be.
    pub(super) fn why(&self, graph: &Graph, id: ValueId) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Guessed(guessed) => {
                let is_guess = guessed.tensors.contains(graph.name_of(id));
                is_guess.then_some("the range of its input rests on a guess of what the model is fed")
            }
            Self::All => Some("--activations float"),
        }
    }

    /// Returns the interval that the grid of the tensor `id`, which `maker` makes, reaches at least: where the operator tends
    /// to both ends of one, or how values lie in it is a guess.
    pub(super) fn reach(&self, graph: &Graph, maker: Option<&Node>, id: ValueId, bits: u32) -> Option<[f32; 2]> {
        maker.and_then(|node| output_bounds(graph, node, bits)).or_else(|| match self {
            Self::Guessed(guessed) => guessed.within.get(graph.name_of(id)).copied(),
            Self::None | Self::All => None,
        })
    }
}
