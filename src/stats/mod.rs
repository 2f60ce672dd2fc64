//! Statistics of activations from the model file itself: batch-normalization statistics, and the moments of every
//! tensor that follow from them.

mod batch_norm;
mod bounds;
mod channels;
mod clipped_normal;
mod guessed;
mod input;
mod known;
mod moments;
mod of_data;
mod side_file;

pub use batch_norm::{BatchNorm, batch_norm_of, read_batch_norms};
pub use bounds::{clip_bounds, output_bounds, output_limits};
pub use clipped_normal::ClippedNormal;
pub use guessed::{Guessed, guessed};
pub use input::{InputScale, InputSource, InputStatistics, guess_input, is_network_input};
pub use known::{KnownInput, known_inputs};
pub use moments::{Moments, propagate, share_of_taps};
pub use side_file::{TensorStatistics, place_statistics, read_statistics, statistics_to_write};
