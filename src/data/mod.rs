//! Inputs for evaluation and verification: arrays from files, batches of images, the user's own inputs, synthetic
//! inputs, and top-1 accuracy. Image synthesis from BatchNorm statistics is in `synthesis`.

mod centered;
mod dataset;
mod eval;
mod feeds;
mod given;
mod images;
mod kind;
mod leaves;
mod natural;
mod npy;
mod npz;
mod preprocess;
mod scale;
mod smooth;
mod synthetic;

pub use centered::{CenteredNoise, EQUAL_DB};
pub use dataset::Dataset;
pub(crate) use eval::argmax;
pub use eval::{Evaluation, class_scores, evaluate};
pub use feeds::Feeds;
pub use given::given_inputs;
pub use kind::{InputKind, MOST_COLOURS, image_channels, input_kind};
pub use natural::{InputMoments, natural_images};
pub use npz::{Array, Arrays, find_array, npz_bytes, read_arrays};
pub use preprocess::{Layout, Pixels, Preprocess};
pub use scale::{mismatch, refuse_other_scale};
pub use synthetic::{input_shape, synthetic_inputs};
