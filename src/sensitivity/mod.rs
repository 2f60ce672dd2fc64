//! The sensitivity of each layer: measured on synthetic inputs with one layer quantized at a time and one layer float
//! at a time. Not accuracy, unless labeled images are given.

mod allot;
mod auto_bits;
mod cost;
mod partial;
mod ranking;
mod weights;

pub use allot::{Choice, allot};
pub use auto_bits::{AutoBits, CANDIDATES, Request, choose_bits};
pub use cost::{Cost, Labelled, Measure, Reference};
pub use partial::{Part, partly_quantized};
pub use ranking::{Accuracy, Sensitivity, Share, rank};
pub use weights::{Allotted, WidthCost};
