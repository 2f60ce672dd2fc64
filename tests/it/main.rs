//! All tests that need a session, a file or the binary: one binary, linked once.

#![allow(clippy::unwrap_used)]

mod bad_input;
mod command_line;
mod emission;
mod fusion;
mod normalise;
mod opset;
mod passes;
mod plan;
mod round_trip;
mod runtime;
mod sensitivity;
mod shape;
mod support;
mod verify;
