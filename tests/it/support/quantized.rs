//! A graph taken through the stages of the pipeline, with what each of them made.

use dfq_onnx::calibrate::CalibrationContext;
use dfq_onnx::emit::emit;
use dfq_onnx::ir::Graph;
use dfq_onnx::plan::{Plan, Policy};
use dfq_onnx::recipes;
use dfq_onnx::solution::{Solution, Solved};
use dfq_onnx::stats::{BatchNorm, InputStatistics, guess_input, read_batch_norms};
use dfq_onnx::{onnx, passes, shape};

use super::ort;

/// What the stages made.
pub struct Quantized {
    /// The float graph that the solution is for.
    pub float: Graph,
    /// Grids and where they are.
    pub plan: Plan,
    /// Scales and integers.
    pub solution: Solution,
    /// The Q/DQ graph.
    pub emitted: Graph,
}

/// Returns `graph` quantized by the recipe `nearest`.
pub fn quantized(graph: &Graph, policy: &Policy) -> dfq_onnx::Result<Quantized> {
    quantized_by(graph, policy, "nearest")
}

/// Returns `graph` quantized by a recipe.
pub fn quantized_by(graph: &Graph, policy: &Policy, recipe: &str) -> dfq_onnx::Result<Quantized> {
    quantized_with(graph, policy, recipe, 1)
}

/// Returns `graph` quantized by a recipe with so many threads.
pub fn quantized_with(graph: &Graph, policy: &Policy, recipe: &str, threads: usize) -> dfq_onnx::Result<Quantized> {
    quantized_from(&prepared(graph, policy)?, policy, recipe, threads)
}

/// The folded float graph, and what is known of its tensors.
pub struct Prepared {
    /// The graph at the operator set of the target.
    pub float: Graph,
    /// Its input.
    pub input: InputStatistics,
    /// What its normalisations said.
    pub norms: Vec<BatchNorm>,
}

/// Returns `graph` ready to be quantized.
pub fn prepared(graph: &Graph, policy: &Policy) -> dfq_onnx::Result<Prepared> {
    let mut float = graph.clone();
    passes::normalise(&mut float, ort())?;
    let norms = read_batch_norms(&float);
    let input = guess_input(&float, &norms);
    passes::fold(&mut float)?;
    onnx::upgrade(&mut float, policy.target.choices().opset)?;
    shape::infer(&mut float)?;
    Ok(Prepared { float, input, norms })
}

/// Returns what a recipe makes of the float graph.
pub fn quantized_from(
    prepared: &Prepared,
    policy: &Policy,
    recipe: &str,
    threads: usize,
) -> dfq_onnx::Result<Quantized> {
    let Prepared { float, input, norms } = prepared;
    let context = CalibrationContext { norms, input, images: None, engine: ort(), seed: 3, threads };
    let recipe = recipes::find(recipe)?;
    let candidates = recipes::prepare(recipe, float, policy, &context)?;
    let Solved { float, plan, solution, .. } = (recipe.run)(&candidates, &context)?;
    let emitted = emit(&float, &plan, &solution)?;
    Ok(Quantized { float, plan, solution, emitted })
}
