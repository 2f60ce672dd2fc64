//! CPU kernels of training steps, on plain slices, for operators without a fast kernel in ONNX Runtime.
//!
//! Work is split by shape into fixed pieces and summed in a fixed order, so results do not depend on the number of
//! threads. The tensors that convolutions share with ONNX Runtime are in its blocked layout: `[N, C, H, W]` lies in
//! memory as `[N, C/b, H, W, b]`, the channels padded to a multiple of `b`.

mod channel_layout;
mod channels;
mod convolution;
mod dense;
mod depthwise;
mod fake_quantize;
mod instructions;
mod job;
mod keep_where;
mod lanes;
mod pack;
mod pieces;
mod plain_input;
mod select;
mod weight_gradient;

pub use channel_layout::Channels;
pub use channels::{Affine, AffineGradient, channel_affine, channel_affine_gradient, channel_moments};
pub use convolution::{ConvAttributes, Convolution};
pub use fake_quantize::{QuantizerGradient, Rounding, fake_quantize, fake_quantize_gradient};
pub use instructions::Instructions;
pub use keep_where::keep_where;
pub use select::{Selection, select, select_gradient};
pub use weight_gradient::{WeightGradient, weight_gradient};

/// The domain of the operators that run these kernels in ONNX Runtime; sessions on the CPU know it.
pub use crate::expr::KERNELS as DOMAIN;

/// Calls a piece of work with every number below the given one, once each, on any threads and in any order.
pub type Spread<'a> = &'a dyn Fn(usize, &(dyn Fn(usize) + Sync));

/// How a kernel runs.
#[derive(Clone, Copy)]
pub struct Execution<'a> {
    /// The vector instructions that it uses.
    pub instructions: Instructions,
    /// Distributes its pieces of work over threads.
    pub spread: Spread<'a>,
}

/// Runs every piece of work on the calling thread.
pub fn in_turn(pieces: usize, work: &(dyn Fn(usize) + Sync)) {
    (0..pieces).for_each(work);
}
