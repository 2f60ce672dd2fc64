//! What a recipe finds for a plan: grids, integers, and how they came about.

use std::collections::HashMap;

use serde::Serialize;

use crate::ir::Graph;
use crate::layers::Step;
use crate::plan::Plan;
use crate::quant::{Grid, QuantizedTensor};

/// Where the range of an activation grid came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RangeSource {
    /// The interval of the network's input.
    Input,
    /// Moments that follow from batch-normalisation statistics.
    Statistics,
    /// Values that the tensor took in the float network on synthetic inputs.
    SyntheticInputs,
    /// Training.
    Trained,
}

/// What was subtracted from biases, by the result of the layer, one value per output channel.
pub type Corrections = HashMap<String, Vec<f32>>;

/// Grids and integers for a plan, in its order.
#[derive(Clone, Debug)]
pub struct Solution {
    /// One grid per [`Plan::activations`].
    pub activations: Vec<Grid>,
    /// Where each of those ranges came from.
    pub sources: Vec<RangeSource>,
    /// One tensor per [`Plan::weights`].
    pub weights: Vec<QuantizedTensor>,
    /// Output channels whose weight scale was enlarged so that the bias fits int32, by weight.
    pub enlarged: Vec<(String, usize)>,
    /// What was subtracted from a layer's bias to make up for the error of its weight, by the layer's result: a layer
    /// that is left float while others are quantized takes it back.
    pub corrections: Corrections,
    /// What was done to single layers beside rounding, and what could not be done and why.
    pub steps: Vec<Step>,
}

/// A float network and what a recipe found for it.
#[derive(Clone, Debug)]
pub struct Solved {
    /// The float network, as the recipe left it.
    pub float: Graph,
    /// Which tensor goes onto which grid.
    pub plan: Plan,
    /// Grids and integers.
    pub solution: Solution,
}
