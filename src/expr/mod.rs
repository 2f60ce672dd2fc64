//! Expressions that build graphs: an [`Expr`] is a handle into a graph under construction, with operators and methods,
//! so that a loss or a gradient rule reads as its formula. All shapes are static, and every operator runs in ONNX
//! Runtime and in tract.

mod builder;
mod elementwise;
mod finish;
mod handle;
mod inline;
mod lowering;
mod movement;
mod normalise;
mod own;
mod reduce;

pub use builder::{Builder, OPSET};
pub use handle::Expr;
pub use inline::{Inlined, inline};
pub use lowering::{KEEP_WHERE, KERNELS, Lowering, NCHWC, STANDARD, ort_cpu};
pub use normalise::BatchNormalised;
pub use own::{
    CHANNEL_AFFINE, CHANNEL_AFFINE_GRADIENT, CHANNEL_MOMENTS, CONV_WEIGHT_GRADIENT, FAKE_QUANTIZE,
    FAKE_QUANTIZE_GRADIENT, OWN_DOMAIN, SELECT, SELECT_GRADIENT, STOP_GRADIENT,
};
pub use reduce::{index, indices};
