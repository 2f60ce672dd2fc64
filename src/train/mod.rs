//! Training: parameters as flat vectors, optimizers and schedules for step graphs, and checkpoints.
//!
//! Steps count from 0: the number of a step is the number of steps completed before it.

mod batch;
mod batch_sampler;
mod block_feeds;
mod blocks;
mod checkpoint;
mod descent;
mod distance;
mod distillation;
mod fake_quantize;
mod history;
pub mod losses;
mod memory;
mod optimiser;
mod outcome;
mod parameters;
mod probes;
mod readout;
mod reconstruction;
mod run;
mod run_folder;
mod schedule;
mod settings;
mod step;
mod step_rng;
mod student;
mod targets;
mod vector;

pub use batch::fitting_batch;
pub use batch_sampler::BatchSampler;
pub use block_feeds::{BlockData, BlockFeeds};
pub use blocks::{Block, blocks, segment};
pub use checkpoint::{About, Checkpoint, Identity, fingerprint};
pub use descent::{Checkpoints, Descent, FitOptions, Rollback, descend};
pub use distance::{Network, adversarial_distance, distance};
pub use distillation::{Compared, Distillation, Objective};
pub use fake_quantize::fake_quantize;
pub use history::{History, LOSS};
pub use losses::{kl_logits, relative_mse};
pub use memory::peak_bytes;
pub use optimiser::Optimiser;
pub use outcome::{DescentReport, HeldOut, OtherKind, StageReport};
pub use parameters::{Entry, Parameters};
pub use probes::{Probe, probes};
pub use readout::{Trained, read_out};
pub use reconstruction::{Reconstruction, SettledParts};
pub use run::Run;
pub use run_folder::{Claim, RunFolder};
pub use schedule::{LearningRate, Plateau, Schedule};
pub use settings::{CHECKPOINT, STEP_GRAPH, Settings, share_of};
pub use step::{Player, TrainingStep, training_step};
pub use step_rng::{mirrored, random_flip_shift, shifted, step_rng};
pub use student::Student;
pub use targets::{Target, Targets, targets};
pub use vector::TrainedVector;
