//! What each layer costs: measured on synthetic inputs, one layer quantized at a time and one left float at a time.
//! Not accuracy, unless labelled images are given.

mod allot;
mod auto_bits;
mod cost;
mod partial;
mod ranking;
mod weights;

pub use allot::{Choice, allot};
pub use auto_bits::{AutoBits, CANDIDATES, Request, choose_bits};
pub use cost::{Cost, Labelled, Measure, Reference};
pub use partial::{Part, Reader, partly_quantized, readers};
pub use ranking::{Accuracy, Sensitivity, Share, rank};
pub use weights::{Allotted, WidthCost};

use crate::ir::Graph;
use crate::plan::Plan;
use crate::recipes::Solution;

/// A student and what a recipe found for it.
#[derive(Clone, Debug)]
pub struct Solved {
    /// The float student, as the recipe left it.
    pub student: Graph,
    /// Which tensor goes onto which grid.
    pub plan: Plan,
    /// Grids and integers.
    pub solution: Solution,
}
