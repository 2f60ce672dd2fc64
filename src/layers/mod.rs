//! Layers as matrices, the channels between layers, and changes to weights and biases that keep the outputs of the
//! float network.

mod absorb;
mod bias;
mod equalise;
mod link;
mod rows;
mod scale;
mod step;

pub use absorb::absorb;
pub use bias::{added_constant, read_bias, shifted_bias, subtract_from_bias, write_bias};
pub use equalise::{Scope, equalise};
pub use link::{Found, Link, links};
pub use rows::Rows;
pub use scale::scale_channels;
pub use step::LayerStep;
