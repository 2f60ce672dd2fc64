//! Training: what is trained is what is shipped, runs end with the same bytes however often they are interrupted, and
//! what cannot be trained is refused with a word.

mod forward;
mod losses;
mod memory;
mod models;
mod quantizers;
mod resumption;
