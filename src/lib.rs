//! Data-free quantization of ONNX models: a float model in, a checked Q/DQ model out, no data needed.
//!
//! [`pipeline`] reads as the list of stages; every stage is a module of its own.

pub mod audit;
pub mod autodiff;
pub mod calibrate;
pub mod cli;
pub mod data;
pub mod digest;
pub mod emit;
pub mod error;
pub mod expr;
mod files;
#[doc(hidden)]
pub mod fuzzing;
mod infer_by_running;
pub mod ir;
pub mod lab;
pub mod layers;
pub mod lint;
pub mod observe;
pub mod onnx;
mod outputs;
pub mod parallel;
pub mod passes;
pub mod pipeline;
pub mod place;
pub mod plan;
pub mod quant;
pub mod recipes;
pub mod report;
pub mod runtime;
pub mod sensitivity;
pub mod shape;
mod shown;
pub mod solution;
pub mod stats;
pub mod synthesis;
pub mod train;
pub mod verdict;
pub mod verify;

pub use error::{Error, Result};
