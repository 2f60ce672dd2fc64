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

/// How a session treats the graph it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Optimisation {
    /// The engine's defaults: what every user of the file gets.
    Default,
    /// Nodes run as they are written.
    None,
}

/// What a session is made with.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// Whether the engine may rewrite the graph.
    pub optimisation: Optimisation,
    /// Threads, the engine's own number where not given: ONNX Runtime's of one run; tract takes one a run, and its own
    /// number is one.
    pub threads: Option<usize>,
    /// Whether weights are packed for many runs; off for a session that runs once or twice.
    pub prepacking: bool,
    /// Where given, a graph with several times as many bytes of weights is loaded in pieces of so many, anew in every
    /// run: slower, in bounded memory.
    pub piece_bytes: Option<usize>,
    /// Where ONNX Runtime writes the graph that it made of the model; tract writes none.
    pub optimised_model: Option<PathBuf>,
    /// Whether training steps on CUDA are recorded as CUDA graphs where that can be; off for comparison.
    pub cuda_graphs: bool,
    /// Whether training steps on CUDA may round factors of products to 10 bits behind the point (TF32); off for
    /// comparison. All else computes in float32.
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

    /// Returns how graphs of training steps are best written for it.
    fn lowering(&self) -> Lowering {
        STANDARD
    }

    /// Returns a session that steps `state`, named tensors, by `graphs`: one for each phase of training, in any order of
    /// turns. An input of a graph that is named as an entry of the state reads it, an output named `ENTRY.next` updates it
    /// (in the same type and shape), and the other inputs (in the order of [`Graph::fed_inputs`]) are fed in every step.
    /// Entries that a graph does not update stay as they are in its steps. All shapes are fixed; graphs are loaded whole.
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

/// A graph made ready to run.
pub trait Session: Send {
    /// Runs the graph on `inputs` (in the order of [`Graph::fed_inputs`]) and returns its outputs in order.
    ///
    /// # Errors
    /// [`crate::Error::Runtime`] when the engine fails or an input does not fit.
    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>>;

    /// Returns what [`Session::run`] returns for each of `batches`.
    ///
    /// # Errors
    /// As [`Session::run`].
    fn run_each(&mut self, batches: &[Vec<Tensor>]) -> Result<Vec<Vec<Tensor>>> {
        batches.iter().map(|batch| self.run(batch)).collect()
    }
}

/// Graphs that make a state of the state before: training steps. The state stays where the engine computes.
pub trait StepSession: Send {
    /// Makes one step by the graph at the place `phase` of those that were loaded; `feeds` are its inputs that are not
    /// state, in order.
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

    /// Keeps the state as it is, where the engine computes, for [`StepSession::go_back`]; the last one that was kept is
    /// forgotten.
    ///
    /// # Errors
    /// [`crate::Error::Runtime`] when it cannot be copied.
    fn keep(&mut self) -> Result<()>;

    /// Goes back to the state that was kept last: that of the beginning where none was.
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
