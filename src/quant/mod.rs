//! Grids, ranges and rounding: everything about a quantizer that needs no graph.

mod bias;
mod grid;
mod histogram;
mod range;
mod round;

pub use bias::{GuardedBias, quantize_bias};
pub use grid::{Grid, Scheme};
pub use histogram::Histogram;
pub use range::{activation_grid, weight_grid};
pub use round::{ChannelLayout, QuantizedTensor, round_to_nearest};
