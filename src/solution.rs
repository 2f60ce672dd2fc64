//! A recipe's solution for a plan: grids, integers, and their origin.

use std::collections::HashMap;

use serde::Serialize;

use crate::ir::Graph;
use crate::layers::LayerStep;
use crate::plan::Plan;
use crate::quant::{Grid, QuantizedTensor};
use crate::stats::BatchNorm;

/// The source of an activation grid's range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RangeSource {
    /// The interval of the network's input.
    Input,
    /// Moments derived from batch-normalization statistics.
    Statistics,
    /// Values of the tensor in the float network on synthetic inputs.
    SyntheticInputs,
    /// Training.
    Trained,
}

/// Bias values, one per output channel, by the name of the layer's output.
pub type Biases = HashMap<String, Vec<f32>>;

/// Grids and integers, in the order of the plan.
#[derive(Clone, Debug)]
pub struct Solution {
    /// One grid per activation in [`Plan::activations`].
    pub activations: Vec<Grid>,
    /// The source of each range.
    pub sources: Vec<RangeSource>,
    /// One tensor per weight in [`Plan::weights`].
    pub weights: Vec<QuantizedTensor>,
    /// The number of output channels whose scale was enlarged so that the bias fits int32, by weight.
    pub enlarged: Vec<(String, usize)>,
    /// The biases of quantized layers that differ from those of the float network. A layer that is left float keeps
    /// the bias of the float network.
    pub biases: Biases,
    /// The steps applied to single layers besides rounding, and the rejected ones with reasons.
    pub steps: Vec<LayerStep>,
}

/// A float network and a recipe's solution for it.
#[derive(Clone, Debug)]
pub struct Solved {
    /// The float network that the solution is for.
    pub float: Graph,
    /// The assignment of tensors to grids.
    pub plan: Plan,
    /// Grids and integers.
    pub solution: Solution,
    /// The batch-normalization statistics of the network's tensors; empty where none are known.
    pub norms: Vec<BatchNorm>,
}
