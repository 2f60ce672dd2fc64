//! A recipe's solution for a plan: grids, integers, and their origin.

use std::collections::HashMap;

use serde::Serialize;

use crate::ir::Graph;
use crate::layers::Step;
use crate::plan::Plan;
use crate::quant::{Grid, QuantizedTensor};

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

/// The values subtracted from biases, one per output channel, by the name of the layer's output.
pub type Corrections = HashMap<String, Vec<f32>>;

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
    /// The corrections subtracted from biases for the error of the weight, by the layer's output; undone in a layer
    /// that is left float while others are quantized.
    pub corrections: Corrections,
    /// The steps applied to single layers besides rounding, and the rejected ones with reasons.
    pub steps: Vec<Step>,
}

/// A float network and a recipe's solution for it.
#[derive(Clone, Debug)]
pub struct Solved {
    /// The float network, as changed by the recipe.
    pub float: Graph,
    /// The assignment of tensors to grids.
    pub plan: Plan,
    /// Grids and integers.
    pub solution: Solution,
}
