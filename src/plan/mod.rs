//! The plan: which tensor is on which grid. Plain data that calibration, training and emission share.

mod assembly;
mod container;
mod cost;
mod demand;
mod float_activations;
mod float_paths;
mod float_reads;
mod fragile;
mod grid_preserving;
mod layer_shape;
mod placement;
mod policy;
mod residual;
mod shortcuts;
mod slow_in_integers;
mod stays_float;
mod target;

use serde::{Deserialize, Serialize};

pub use container::{Container, ContainerChoice, container_choice};
pub use cost::{macs, total_macs};
pub use float_activations::{Activations, FloatActivations};
pub use float_paths::gives_indices;
pub use float_reads::FloatReads;
pub use grid_preserving::preserved_inputs;
pub use layer_shape::{FloatRule, LayerShape};
pub use placement::{INTEGER_KERNELS, channel_axis, plan};
pub use policy::{LayerBits, Policy};
pub use shortcuts::plan_with_split_residuals;
pub use slow_in_integers::{Slow, slower_in_integers};
pub use target::{Choices, PACKED_OPSET, PER_CHANNEL_OPSET, ResidualSums, Target};

use crate::ir::Node;
use crate::quant::Scheme;

/// Operators with weights.
pub const LAYERS: &[&str] = &["Conv", "ConvTranspose", "Gemm", "MatMul"];

/// Returns whether `node` is one of [`LAYERS`].
pub fn is_layer(node: &Node) -> bool {
    LAYERS.iter().any(|op| node.is(op))
}

/// Why a tensor is on a grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The network's input, or the result of elementwise operators on it before the first layer.
    Image,
    /// The input of a Conv, Gemm or MatMul.
    LayerInput,
    /// An operand of a residual sum, on the bits of sums.
    Carrier,
    /// Needed only by integer kernels of the target, whose neighbors must be quantized.
    Output,
}

/// One activation grid and the tensors on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Activation {
    /// The form of the grid.
    pub scheme: Scheme,
    /// Why it is there.
    pub role: Role,
    /// Tensors whose values set the range: those that are not results of a grid-preserving operator on this grid.
    pub roots: Vec<String>,
    /// The interval that the grid must cover, regardless of observed values.
    pub reach: Option<[f32; 2]>,
    /// The least and the largest value that the tensors can take.
    pub limits: [Option<f32>; 2],
    /// Every tensor on the grid, `roots` included.
    pub tensors: Vec<String>,
    /// The tensors that get a Q/DQ pair; the others keep the grid by themselves.
    pub quantized: Vec<String>,
}

/// One weight grid; layers that share an initializer with the same form share it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Weight {
    /// The initializer.
    pub tensor: String,
    /// The form of the grid.
    pub scheme: Scheme,
    /// Whether its integers are stored two per byte.
    pub packed: bool,
}

/// One quantized Conv, ConvTranspose, Gemm or MatMul.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Layer {
    /// The node's name, or its output's where it has none.
    pub name: String,
    /// The operator.
    pub op_type: String,
    /// The tensor that the node makes.
    pub output: String,
    /// Index into [`Plan::activations`]: the grid of the input.
    pub input: usize,
    /// Index into [`Plan::weights`]; `None` where both operands are activations.
    pub weight: Option<usize>,
}

/// A layer that computes in floating point with a quantized weight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WeightOnly {
    /// The node's name, or its output's where it has none.
    pub name: String,
    /// The operator.
    pub op_type: String,
    /// The tensor that the node makes.
    pub output: String,
    /// Index into [`Plan::weights`].
    pub weight: usize,
}

/// A node or tensor that stays in floating point, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Float {
    /// Node or tensor.
    pub name: String,
    /// The operator.
    pub op_type: String,
    /// The kind of reason.
    pub cause: Cause,
    /// The reason.
    pub reason: String,
}

/// The kinds of reasons to stay in floating point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// A layer of an unsupported form.
    Form,
    /// A layer that the user excluded.
    Choice,
    /// A layer that the target computes faster in floating point.
    Speed,
    /// A layer whose rounding would change the indices of a MaxPool.
    Indices,
    /// A layer whose target reads quantized weights only.
    WeightOnly,
    /// A layer whose input is not quantized: only its weight is, if it has one.
    FloatInput,
    /// A tensor between quantized operators that has a float reader.
    Reader,
}

impl Float {
    /// Returns whether a whole layer stays float.
    pub fn is_layer(&self) -> bool {
        matches!(self.cause, Cause::Form | Cause::Choice | Cause::Speed | Cause::Indices)
    }
}

/// What is quantized, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The target of the file.
    pub target: Target,
    /// Activation grids.
    pub activations: Vec<Activation>,
    /// Weight grids.
    pub weights: Vec<Weight>,
    /// Quantized layers in graph order.
    pub layers: Vec<Layer>,
    /// Layers with only a quantized weight, in graph order.
    pub weight_only: Vec<WeightOnly>,
    /// What stays float.
    pub float: Vec<Float>,
}

impl Plan {
    /// Returns the operator set that the file needs.
    pub fn opset(&self) -> i64 {
        let least = self.target.choices().opset;
        if self.weights.iter().any(|w| w.packed) { least.max(PACKED_OPSET) } else { least }
    }

    /// Returns the fewest bits of any grid.
    pub fn fewest_bits(&self) -> u32 {
        let weights = self.weights.iter().map(|w| w.scheme.bits);
        let activations = self.activations.iter().map(|a| a.scheme.bits);
        weights.chain(activations).min().unwrap_or(8)
    }
}
