//! Generates synthetic inputs: trains small generators until the statistics of normalized tensors match those of batch
//! normalization, or the logits are confident and balanced over classes.
//!
//! A new generator per batch keeps images diverse (Li et al. 2023, Genie). One term of the loss = one row of [`TERMS`].

mod answers;
mod generator;
mod input_spec;
mod latents;
mod options;
mod report;
mod stage;
mod step;
mod teacher;
mod terms;

pub use answers::{Answers, answers};
pub use generator::Generator;
pub use input_spec::InputSpec;
pub use latents::Latents;
pub use options::Options;
pub use report::{GeneratorReport, SynthesisReport};
pub use stage::{SynthesisContext, SyntheticImages, TrainedGenerator, synthesise};
pub use step::{ImageSynthesis, Maker};
pub use teacher::{Swing, SynthesisTeacher};
pub use terms::{Compared, LossInputs, TERMS, Term, Weights, loss, weights};
