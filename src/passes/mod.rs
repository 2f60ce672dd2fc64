//! Graph passes: one file, one function each; it changes the graph and returns how many changes it made.

mod drop_identity;
mod fix_shapes;
mod fold_constants;
mod freeze_initializer_inputs;
mod lift_constants;
mod normalise;

pub use drop_identity::drop_identity;
pub use fix_shapes::fix_shapes;
pub use fold_constants::fold_constants;
pub use freeze_initializer_inputs::freeze_initializer_inputs;
pub use lift_constants::lift_constants;
pub use normalise::{NORMALISE, Pass, normalise};
