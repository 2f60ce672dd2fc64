//! Data-free quantization of ONNX models: a float model in, a checked Q/DQ model out, no data needed.
//!
//! ```no_run
//! use std::path::Path;
//!
//! use dfq_onnx::{Config, EngineRequest, Places, Policy, Silent, engines, quantize};
//!
//! let engines = engines(&EngineRequest::default(), &Places::of_this_process(None))?;
//! let config = Config {
//!     output: Some("model.w4a8.onnx".into()),
//!     policy: Policy { weight_bits: 4, ..Policy::default() },
//!     ..Config::of_model(Path::new("model.onnx"))
//! };
//! let report = quantize(&config, &engines, &mut Silent)?;
//! for warning in &report.warnings {
//!     println!("{warning}");
//! }
//! # Ok::<(), dfq_onnx::Error>(())
//! ```
//!
//! [`pipeline`] lists the stages, [`report`] holds the results of a run. The other modules are public for the program,
//! its tests and benches only and change without notice.

#[doc(hidden)]
pub mod audit;
#[doc(hidden)]
pub mod autodiff;
#[doc(hidden)]
pub mod calibrate;
#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
pub mod data;
#[doc(hidden)]
pub mod digest;
#[doc(hidden)]
pub mod emit;
#[doc(hidden)]
pub mod error;
#[doc(hidden)]
pub mod expr;
mod files;
#[doc(hidden)]
pub mod fuzzing;
mod infer_by_running;
#[doc(hidden)]
pub mod ir;
#[doc(hidden)]
pub mod lab;
#[doc(hidden)]
pub mod layers;
#[doc(hidden)]
pub mod lint;
#[doc(hidden)]
pub mod observe;
#[doc(hidden)]
pub mod onnx;
mod outputs;
#[doc(hidden)]
pub mod parallel;
#[doc(hidden)]
pub mod passes;
pub mod pipeline;
#[doc(hidden)]
pub mod place;
#[doc(hidden)]
pub mod plan;
#[doc(hidden)]
pub mod quant;
#[doc(hidden)]
pub mod recipes;
pub mod report;
#[doc(hidden)]
pub mod runtime;
#[doc(hidden)]
pub mod sensitivity;
#[doc(hidden)]
pub mod shape;
mod shown;
#[doc(hidden)]
pub mod solution;
#[doc(hidden)]
pub mod stats;
#[doc(hidden)]
pub mod synthesis;
#[doc(hidden)]
pub mod train;
#[doc(hidden)]
pub mod verdict;
#[doc(hidden)]
pub mod verify;

pub use data::Preprocess;
pub use error::{Error, Result};
pub use ir::{DType, Graph, Tensor};
pub use observe::{Observer, Progress, Silent};
pub use pipeline::{Config, Ranges, Thresholds, make_inputs, quantize, rank_layers};
pub use plan::{Activations, Container, Policy, Target};
pub use recipes::{RECIPES, Recipe, Stage, find as find_recipe, find_stages};
pub use report::{Ranking, Report};
pub use runtime::{EngineChoice, EngineRequest, Engines, Places, engines};
pub use sensitivity::Request as AutoBitsRequest;
pub use stats::InputStatistics;
pub use synthesis::Options as SynthesisOptions;
pub use train::{RunFolder, Settings as TrainingSettings};
