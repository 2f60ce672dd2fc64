//! Generates synthetic inputs: trains small generators until the statistics of normalized tensors match those of batch
//! normalization, or the logits are confident and balanced over classes.
//!
//! A new generator per batch keeps images diverse (Li et al. 2023, Genie). One term of the loss = one row of [`TERMS`].

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
