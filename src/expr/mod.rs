//! The one tool that writes graphs: an [`Expr`] is a handle into a graph that is being built, with operators and methods,
//! so that a loss or a gradient rule reads as its formula. All shapes are numbers, and every operator runs in ONNX
//! Runtime and in tract.

mod builder;
mod elementwise;
mod finish;
mod handle;
mod inline;
mod movement;
mod normalise;
mod reduce;

pub use builder::{Builder, OPSET, STOP_GRADIENT, STOP_GRADIENT_DOMAIN};
pub use handle::Expr;
pub use inline::{Inlined, inline};
pub use normalise::BatchNormalised;
pub use reduce::{index, indices};
