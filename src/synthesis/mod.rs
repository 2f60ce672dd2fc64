//! Inputs made up for a network so that it finds in them what it was trained on: small generators are trained until the
//! statistics of its normalised tensors are those that batch normalisation kept, or its class scores are sure and even.
//!
//! A fresh generator for each batch keeps images from looking alike (Li et al. 2023, Genie). One term of the loss = one
//! row of [`TERMS`].

mod adversary;
mod answers;
mod form;
mod generator;
mod options;
mod stage;
mod step;
mod subject;
mod terms;

pub use adversary::{Adversary, Rival};
pub use answers::{Answers, answers};
pub use form::Form;
pub use generator::Generator;
pub use options::Options;
pub use stage::{Made, Source, SynthesisReport, Trained, synthesise};
pub use step::Making;
pub use subject::{Subject, Swing};
pub use terms::{TERMS, Term, Weights, weights};
