//! Training: what is trained is what is shipped, runs end with the same bytes however often they are interrupted, and
//! what cannot be trained is refused with a word.

mod bowl;
pub mod cascade;
mod command;
mod data;
mod divergence;
mod forward;
mod games;
mod interruption;
mod kinds;
mod losses;
mod lowerings;
mod memory;
mod models;
mod quantizers;
mod reconstruction;
mod refusals;
mod resumption;
mod settled;
mod start;
mod terms;
mod variants;
