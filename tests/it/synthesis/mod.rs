//! Inputs that are made for a network: losses, generators, and the command.

mod command;
mod generators;
mod losses;
mod refusals;
