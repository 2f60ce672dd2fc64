//! Training: parameters as flat vectors, optimisers and schedules that step graphs are written with, and checkpoints.
//!
//! A step counts from 0: its number is how many steps were done before it.

mod checkpoint;
mod optimiser;
mod parameters;
mod schedule;

pub use checkpoint::{About, Checkpoint, Identity, fingerprint, sha256};
pub use optimiser::Optimiser;
pub use parameters::{Entry, Parameters};
pub use schedule::{LearningRate, Plateau, Schedule};
