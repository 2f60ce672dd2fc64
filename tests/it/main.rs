//! All tests that need a session, a file or the binary: one binary, linked once.

#![allow(clippy::unwrap_used)]

mod architecture;
mod audit;
mod bad_input;
mod bn_stats;
mod checkpoints;
mod command_line;
mod effort;
mod emission;
mod exporters;
mod failures;
mod fixed_batch;
mod floats;
mod fusion;
mod gradients;
mod guesses;
mod handed_over;
mod heads;
mod inlining;
mod interference;
mod kernels;
mod lint;
mod mutants;
mod opset;
mod optimisers;
mod passes;
mod plan;
mod recipes;
mod report;
mod round_trip;
mod runtime;
mod saturation;
mod sensitivity;
mod shape;
mod steps;
mod support;
mod synthesis;
mod targets;
mod telemetry;
mod tied;
mod training;
mod verdict;
mod verify;
