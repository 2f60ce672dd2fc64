//! Engines that run graphs: ONNX Runtime (loaded at run time) and tract (embedded), behind one small interface.

mod batched;
mod device;
mod device_failure;
pub mod doctor;
pub mod kernels;
mod library;
pub mod machine;
mod ort;
mod panics;
mod pieces;
mod room;
mod select;
mod step_layout;
mod timed;
mod tract;

use std::path::PathBuf;

use crate::error::Result;
use crate::expr::{Lowering, STANDARD};
use crate::ir::{Graph, Tensor};

pub use batched::{first_samples, refuse_states, rows_of_a_run, rows_of_run, run_in_batches};
pub use device::Device;
pub use library::{Found, LIBRARY_VARIABLE, Origin, Places, TELEMETRY_SWITCH, locate};
pub use ort::OrtEngine;
pub use pieces::PIECE_BYTES;
pub use room::refuse_oversized;
pub use select::{EngineChoice, EngineRequest, Engines, engines};
pub use tract::{TRACT_VERSION, TractEngine};

/// The optimization of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Optimisation {
    /// The engine's defaults, as users of the file get.
    Default,
    /// Nodes run as written.
    None,
}

/// The options of a session.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// Whether the engine may rewrite the graph.
    pub optimisation: Optimisation,
    /// Threads of one run, by default the engine's own number; tract always uses one.
    pub threads: Option<usize>,
    /// Whether weights are packed for many runs; off for a session that runs once or twice.
    pub prepacking: bool,
    /// If given, a graph with several times as many bytes of weights is loaded in pieces of this size in every run:
    /// slower, but in bounded memory.
    pub piece_bytes: Option<usize>,
    /// The file to which ONNX Runtime writes the optimized graph; tract writes none.
    pub optimised_model: Option<PathBuf>,
    /// Whether training steps on CUDA are recorded as CUDA graphs if possible; off for comparison.
    pub cuda_graphs: bool,
    /// Whether training steps on CUDA may round factors of products to 10 fraction bits (TF32); off for comparison.
    /// Everything else computes in float32.
    pub tf32: bool,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            optimisation: Optimisation::Default,
            threads: None,
            prepacking: false,
            piece_bytes: None,
            optimised_model: None,
            cuda_graphs: true,
            tf32: true,
        }
    }
}

/// A library that can run graphs.
pub trait Engine: Send + Sync {
    /// Returns name and version, such as `ONNX Runtime 1.31.1`.
    fn name(&self) -> String;

    /// Returns a session that runs `graph`.
    ///
    /// # Errors
    /// [`crate::Error::Runtime`] when the engine refuses the graph.
    fn load(&self, graph: &Graph, options: &SessionOptions) -> Result<Box<dyn Session>>;

    /// Returns the lowering of training steps for this engine.
    fn lowering(&self) -> Lowering {
        STANDARD
    }

    /// Returns a session that steps `state`, named tensors, by `graphs`: one per phase of training, run in any order. A
    /// graph input with the name of a state entry reads it, an output named `ENTRY.next` updates it (in the same type
    /// and shape), and the other inputs (in the order of [`Graph::fed_inputs`]) are fed in every step. A graph leaves
    /// the other entries unchanged. All shapes are fixed; graphs are loaded whole.
    ///
    /// # Errors
    /// [`crate::Error::Runtime`] when the engine refuses a graph; [`crate::Error::Shape`] naming the input or output
    /// when state and graphs do not fit together.
    fn load_steps(
        &self,
        graphs: &[&Graph],
        state: &[(String, Tensor)],
        options: &SessionOptions,
    ) -> Result<Box<dyn StepSession>>;
}

/// A loaded graph.
pub trait Session: Send {
    /// Runs the graph on `inputs` (in the order of [`Graph::fed_inputs`]) and returns its outputs in order.
    ///
    /// # Errors
    /// [`crate::Error::Runtime`] when the engine fails or an input does not fit.
    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>>;

    /// Returns the outputs of [`Session::run`] for each of `batches`.
    ///
    /// # Errors
    /// As [`Session::run`].
    fn run_each(&mut self, batches: &[Vec<Tensor>]) -> Result<Vec<Vec<Tensor>>> {
        batches.iter().map(|batch| self.run(batch)).collect()
    }
}

/// Training steps: graphs that update a state, which stays on the engine's device.
pub trait StepSession: Send {
    /// Runs one step of the graph with index `phase`; `feeds` are its inputs that are not state, in order.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] naming the feed that does not fit, [`crate::Error::Runtime`] when the engine fails; the
    /// state is as before the step then.
    fn step(&mut self, phase: usize, feeds: &[Tensor]) -> Result<()>;

    /// Returns a copy of entry `index` of the state.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] when there is no such entry, [`crate::Error::Runtime`] when it cannot be read.
    fn read(&self, index: usize) -> Result<Tensor>;

    /// Saves the state on the device for [`StepSession::go_back`], replacing the previously saved one.
    ///
    /// # Errors
    /// [`crate::Error::Runtime`] when it cannot be copied.
    fn keep(&mut self) -> Result<()>;

    /// Restores the last saved state, or the initial state if none was saved.
    ///
    /// # Errors
    /// As [`StepSession::keep`].
    fn go_back(&mut self) -> Result<()>;

    /// Sets entry `index` of the state, which keeps its type and shape.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] when it does not fit, [`crate::Error::Runtime`] when it cannot be written.
    fn write(&mut self, index: usize, value: &Tensor) -> Result<()>;
}
