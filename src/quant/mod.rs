//! Grids, ranges and rounding: the parts of quantization that are independent of a graph.

mod absorb;
mod bias;
mod compensate;
mod equalise;
mod flip;
mod grid;
mod histogram;
mod range;
mod round;

pub use absorb::absorbed;
pub use bias::{GuardedBias, quantize_bias};
pub use compensate::{Compensated, Metric, RowGrid, compensate, scale_terms};
pub use equalise::{equalising_factors, within_reach};
pub use flip::{FlipLayout, flip};
pub use grid::{Grid, Scheme};
pub use histogram::Histogram;
pub use range::{activation_grid, weight_grid};
pub use round::{ChannelLayout, QuantizedTensor, round_to_nearest};
