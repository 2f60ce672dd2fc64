//! Recipes: methods that find a plan's grids and integers. One recipe = one file + one row of [`RECIPES`].

mod analytic;
mod candidates;
mod cascade;
mod choi2020;
mod dfq2019;
mod fast;
mod gdfq;
mod judge;
mod lsq;
mod nearest;
mod probes;
mod recipe;
mod rounding;
mod sequential;
mod shift;
mod squant;
mod stages;
mod starts;
mod trained;
mod trial;
mod weights;

pub use candidates::{Candidate, Candidates, prepare};
pub use recipe::{RECIPES, Recipe, Run, TrainingBudget, find};
pub use sequential::sequential;
pub use stages::{STAGES, Stage, against, find_stages, train};
