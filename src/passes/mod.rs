//! Graph passes: one file, one function each; it changes the graph and returns how many changes it made.

mod channel_map;
mod clip_in_integers;
mod conv_to_gemm;
mod convert_floats;
mod drop_identity;
mod drop_unread_outputs;
mod fix_shapes;
mod fold;
mod fold_affine;
mod fold_batch_norm;
mod fold_constants;
mod free_batch;
mod freeze_initializer_inputs;
mod fuse_pad;
mod layer_constants;
mod lift_constants;
mod normalise;
mod part_pool_indices;
mod refuse_unfit;

pub use clip_in_integers::clip_in_integers;
pub use conv_to_gemm::conv_to_gemm;
pub use convert_floats::{convert_floats, is_converted};
pub use drop_identity::drop_identity;
pub use drop_unread_outputs::drop_unread_outputs;
pub use fix_shapes::fix_shapes;
pub use fold::fold;
pub use fold_affine::fold_affine;
pub use fold_batch_norm::fold_batch_norm;
pub use fold_constants::fold_constants;
pub use free_batch::{fix_batch, free_batch};
pub use freeze_initializer_inputs::freeze_initializer_inputs;
pub use fuse_pad::fuse_pad;
pub use lift_constants::lift_constants;
pub use normalise::{NORMALISE, Pass, normalise};
pub use part_pool_indices::part_pool_indices;
pub use refuse_unfit::refuse_unfit;
