//! Inputs made up for a network so that it finds in them what it was trained on: small generators are trained until the
//! statistics of its normalised tensors are those that batch normalisation kept, or its logits are sure and even.
//!
//! A fresh generator for each batch keeps images from looking alike (Li et al. 2023, Genie). One term of the loss = one
//! row of [`TERMS`].

mod adversarial_game;
mod answers;
mod generator;
mod input_spec;
mod options;
mod stage;
mod step;
mod teacher;
mod terms;

pub use adversarial_game::{AdversarialGame, TrainedGenerator};
pub use answers::{Answers, answers};
pub use generator::Generator;
pub use input_spec::InputSpec;
pub use options::Options;
pub use stage::{Source, SynthesisReport, SyntheticImages, Trained, synthesise};
pub use step::ImageSynthesis;
pub use teacher::{Swing, SynthesisTeacher};
pub use terms::{TERMS, Term, Weights, weights};
